import { account, Deposit, execution, newBank } from '@starter/testing';
import { DataSource } from 'typeorm';

// One of the processes of contention.int.spec.ts. It says that it is ready, waits for the word to go, executes all its
// commands at once, some of them twice, and tells what became of them.
const [url, commands, actors] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])];

const dataSource = await new DataSource({ type: 'postgres', url, poolSize: 3, extra: { pipeline: true } }).initialize();
const { runtime } = newBank(dataSource, { mailboxSize: 2 * commands });
process.send('ready');
await new Promise((resolve) => process.once('message', resolve));

const executions = Array.from({ length: commands }, (_, n) => execution(Deposit.type, `contended-${n % actors}`, 1));
const results = await Promise.all(
  [...executions, ...executions.filter((_, n) => n % 10 === 0)].map((one) => runtime.execute(account, one)),
);
const { conflicts, transactions } = runtime.metrics;
const count = (kind) => results.filter((result) => result.kind === kind).length;
process.send({ applied: count('applied'), duplicates: count('duplicate'), conflicts, transactions });
await runtime.close();
await dataSource.destroy();
process.disconnect();

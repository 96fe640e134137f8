import { account, Deposit, execution, newBank } from '@starter/testing';
import { DataSource } from 'typeorm';

// One of the processes of contention.int.spec.ts. Each time that it is told a number of actors it executes all its commands at
// once, some of them twice, and tells what became of them.
const [url, commands] = [process.argv[2], Number(process.argv[3])];

const dataSource = await new DataSource({ type: 'postgres', url, poolSize: 3, extra: { pipeline: true } }).initialize();

process.on('message', async (actors) => {
  const { runtime } = newBank(dataSource, { mailboxSize: 2 * commands });
  const executions = Array.from({ length: commands }, (_, n) => execution(Deposit.type, `contended-${n % actors}`, 1));
  const results = await Promise.all(
    [...executions, ...executions.filter((_, n) => n % 10 === 0)].map((one) => runtime.execute(account, one)),
  );
  const { conflicts, transactions } = runtime.metrics;
  const count = (kind) => results.filter((result) => result.kind === kind).length;
  await runtime.close();
  process.send({ applied: count('applied'), duplicates: count('duplicate'), conflicts, transactions });
});
process.send('ready');

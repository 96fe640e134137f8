import { resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { startKafka, startPostgres, startRabbitMq, type Backend, type BackendOptions } from './index.js';

const usage = `Starts RabbitMQ, Kafka and PostgreSQL on free ports of this machine, until Ctrl-C.

Usage: npm run brokers [-- --data-dir DIR]

  --data-dir DIR  keep the data in DIR; default: temporary folders, removed at the end
  --help          print this`;

const servers = [
  { name: 'RabbitMQ', variable: 'RABBITMQ_URL', start: startRabbitMq },
  { name: 'Kafka', variable: 'KAFKA_BROKERS', start: startKafka },
  { name: 'PostgreSQL', variable: 'DATABASE_URL', start: startPostgres },
];

interface Outcome {
  readonly variable: string;
  readonly backend: Backend;
}

/** The options of the command line; ends the process for `--help` and for what it does not know. */
function readOptions(): BackendOptions {
  try {
    const { values } = parseArgs({ options: { 'data-dir': { type: 'string' }, help: { type: 'boolean' } } });
    if (values.help) {
      console.log(usage);
      process.exit(0);
    }
    if (values['data-dir'] === '') throw new Error('--data-dir needs the name of a folder');
    return values['data-dir'] === undefined ? {} : { dataDir: resolve(values['data-dir']) };
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage}`);
    process.exit(2);
  }
}

async function startAll(options: BackendOptions): Promise<Outcome[]> {
  const outcomes = await Promise.allSettled(
    servers.map(async ({ name, variable, start }): Promise<Outcome> => {
      const begin = performance.now();
      const backend = await start(options);
      console.log(`${name.padEnd(10)} up in ${((performance.now() - begin) / 1000).toFixed(1)} s`);
      return { variable, backend };
    }),
  );
  const started = outcomes.flatMap((outcome) => (outcome.status === 'fulfilled' ? [outcome.value] : []));
  const failures = outcomes.flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.reason as Error] : []));
  if (failures.length === 0) return started;
  for (const failure of failures) console.error(failure.message);
  await stopAll(started);
  process.exit(1);
}

async function stopAll(outcomes: readonly Outcome[]): Promise<void> {
  await Promise.all(outcomes.map(({ backend }) => backend.stop()));
}

const options = readOptions();
const running = await startAll(options);
console.log(`\nexport ${running.map(({ variable, backend }) => `${variable}=${backend.url}`).join(' ')}`);
console.log('\nCtrl-C ends them.');

const stayAlive = setInterval(() => {}, 2 ** 30);
const end = () => {
  clearInterval(stayAlive);
  void stopAll(running).then(() => process.exit(0));
};
// Not `once`: on Ctrl-C both the terminal and npm send the signal, and the second one must not cut the stop short.
process.on('SIGINT', end).on('SIGTERM', end);

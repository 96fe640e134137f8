import {
  MissingPrerequisiteError,
  startKafka,
  startPostgres,
  startRabbitMq,
  type Backend,
} from '@starter/local-backends';
import {
  connectKafka,
  connectRabbitMq,
  databaseOptions,
  MemoryCommandBroker,
  MemoryCommandTransport,
  MemoryEventLog,
  MemoryEventTransport,
} from '@starter/messaging';
import {
  connectionsOf,
  connectionSettings,
  databaseOf,
  readSettings,
  type Connections,
  type Transports,
} from '@starter/service';
import { DataSource } from 'typeorm';
import type { DemoOptions } from './options.js';

/** What a service reads to reach its database: DATABASE_URL and, with --brokers env, every other DATABASE_… variable. */
type DatabaseVariables = Readonly<Record<string, string | undefined>> & { readonly DATABASE_URL: string };

export interface Backends {
  /** Of the real brokers, for clients of one's own. */
  readonly urls?: { readonly rabbitMq: string; readonly kafka: string };
  /** The brokers, when they are in this process. */
  readonly memory?: { readonly broker: MemoryCommandBroker; readonly log: MemoryEventLog };
  /** Creates the service's own database when it is not there. */
  databaseFor(service: string): Promise<DatabaseVariables>;
  transportsFor(service: string): Promise<Transports>;
  stop(): Promise<void>;
}

type Report = (line: string) => void;

/** Starts what the mode asks for and says what it starts. */
export async function startBackends(options: DemoOptions, report: Report): Promise<Backends> {
  const started: Backend[] = [];
  const stop = async () => void (await Promise.all(started.map((backend) => backend.stop())));
  const begin = async (name: string, start: (options: { dataDir?: string }) => Promise<Backend>): Promise<string> => {
    const since = performance.now();
    const backend = await start(options.dataDir === undefined ? {} : { dataDir: options.dataDir });
    started.push(backend);
    report(
      `${name.padEnd(14)} ${withoutPassword(backend.url)}  (${((performance.now() - since) / 1000).toFixed(1)} s)`,
    );
    return backend.url;
  };
  try {
    const [server, transport] = await Promise.all([
      options.brokers === 'env'
        ? databaseFromEnvironment()
        : begin('PostgreSQL', startPostgres).then((DATABASE_URL) => ({ DATABASE_URL })),
      transports(options, begin, report),
    ]);
    return { ...transport, databaseFor: (service) => createDatabase(server, service), stop };
  } catch (error) {
    await stop();
    if (!(error instanceof MissingPrerequisiteError)) throw error;
    throw new Error(`${error.message}\nOr run the demo without brokers: npm run demo -- --brokers memory`, {
      cause: error,
    });
  }
}

async function transports(
  { brokers }: DemoOptions,
  begin: (name: string, start: (options: { dataDir?: string }) => Promise<Backend>) => Promise<string>,
  report: Report,
): Promise<Pick<Backends, 'transportsFor' | 'urls' | 'memory'>> {
  if (brokers === 'memory') {
    const broker = new MemoryCommandBroker();
    const log = new MemoryEventLog();
    report('brokers        in memory, in this process');
    return {
      memory: { broker, log },
      transportsFor: () =>
        Promise.resolve({ commands: new MemoryCommandTransport(broker), events: new MemoryEventTransport(log) }),
    };
  }
  const [rabbitMq, kafka] =
    brokers === 'native'
      ? await Promise.all([begin('RabbitMQ', startRabbitMq), begin('Kafka', startKafka)])
      : [fromEnvironment('RABBITMQ_URL'), fromEnvironment('KAFKA_BROKERS')];
  const connections: Pick<Connections, 'rabbitMq' | 'kafka'> =
    brokers === 'native'
      ? { rabbitMq: { url: rabbitMq }, kafka: { brokers: kafka.split(',') } }
      : connectionsOf(readSettings(connectionSettings, process.env));
  return {
    urls: { rabbitMq, kafka },
    transportsFor: async (service) => {
      const [commands, events] = await Promise.all([
        connectRabbitMq({ ...connections.rabbitMq, connectionName: service }),
        connectKafka({ ...connections.kafka, clientId: service }),
      ]);
      return { commands, events };
    },
  };
}

function fromEnvironment(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`--brokers env needs ${name}; \`npm run brokers\` prints one to set`);
  return value;
}

const databaseFromEnvironment = (): DatabaseVariables => ({
  ...Object.fromEntries(Object.entries(process.env).filter(([name]) => name.startsWith('DATABASE_'))),
  DATABASE_URL: fromEnvironment('DATABASE_URL'),
});

async function createDatabase(variables: DatabaseVariables, service: string): Promise<DatabaseVariables> {
  const database = service.replaceAll('-', '_');
  const connection = databaseOf(readSettings(connectionSettings, variables));
  const server = await new DataSource(databaseOptions(connection)).initialize();
  try {
    const existing = await server.query<unknown[]>('SELECT FROM pg_database WHERE datname = $1', [database]);
    if (existing.length === 0) await server.query(`CREATE DATABASE "${database}"`);
  } finally {
    await server.destroy();
  }
  const url = new URL(variables.DATABASE_URL);
  url.pathname = `/${database}`;
  return { ...variables, DATABASE_URL: url.href };
}

function withoutPassword(url: string): string {
  return url.replace(/:[^:@/]*@/, '@');
}

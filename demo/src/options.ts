import { parseArgs } from 'node:util';
import { fileURLToPath } from 'node:url';
import { resolve } from 'node:path';

export const brokerModes = ['memory', 'native', 'env'] as const;
export type BrokerMode = (typeof brokerModes)[number];

export interface DemoOptions {
  readonly users: string;
  readonly once: boolean;
  readonly brokers: BrokerMode;
  readonly dataDir?: string;
}

export const usage = `npm run demo -- [options]
  --once              exit after the summary; non-zero when anything is missing
  --users FILE        JSON lines {"email": …, "name": …} (default: demo/users.jsonl, 1,000 users)
  --brokers MODE      memory (default) | native: starts RabbitMQ and Kafka | env: RABBITMQ_URL, KAFKA_BROKERS, DATABASE_URL
  --data-dir DIR      keep the data there over restarts
  --help`;

/** @throws Error with the usage when an option is unknown or wrong */
export function parseOptions(args: readonly string[]): DemoOptions | 'help' {
  try {
    const { values } = parseArgs({
      args: [...args],
      options: {
        users: { type: 'string', default: fileURLToPath(new URL('../users.jsonl', import.meta.url)) },
        once: { type: 'boolean', default: false },
        brokers: { type: 'string', default: 'memory' },
        'data-dir': { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) return 'help';
    const brokers = brokerModes.find((mode) => mode === values.brokers);
    if (!brokers) throw new Error(`--brokers is one of ${brokerModes.join(', ')}, not ${values.brokers}`);
    const dataDir = values['data-dir'];
    return {
      users: resolve(values.users),
      once: values.once,
      brokers,
      ...(dataDir === undefined ? {} : { dataDir: resolve(dataDir) }),
    };
  } catch (error) {
    throw new Error(`${(error as Error).message}\n\n${usage}`, { cause: error });
  }
}

import { readdirSync } from 'node:fs';
import { join } from 'node:path';

/** What the tests talk to: the variable that names a running one, and how to start one of our own. */
const backends = [
  { name: 'postgres', title: 'PostgreSQL', variable: 'DATABASE_URL', start: 'startPostgres' },
  { name: 'rabbitmq', title: 'RabbitMQ', variable: 'RABBITMQ_URL', start: 'startRabbitMq' },
  { name: 'kafka', title: 'Kafka', variable: 'KAFKA_BROKERS', start: 'startKafka' },
];

/**
 * What could not be had: `message` says why, `broken` that it is there but does not start.
 * @type {{ title: string, message: string, broken: boolean }[]}
 */
export const missingBackends = [];

/** @type {{ stop(): Promise<void> }[]} */
const running = [];

/**
 * Starts each backend whose variable is not set, and sets the variable for the test workers.
 * TEST_BACKENDS restricts that to a list such as `postgres,kafka`, or to `none`.
 */
export async function startBackends(globalConfig) {
  if (onlyUnitSpecs(globalConfig)) return;
  const selection = process.env.TEST_BACKENDS?.split(',');
  const wanted = backends.filter(({ name, variable }) => !process.env[variable] && (selection?.includes(name) ?? true));
  if (wanted.length === 0) return;

  // The built one (npm test builds first): this runs before Jest can transform TypeScript.
  const library = await import('@starter/local-backends');
  await Promise.all(
    wanted.map(async ({ title, variable, start }) => {
      try {
        const backend = await library[start]();
        running.push(backend);
        process.env[variable] = backend.url;
      } catch (error) {
        const broken = !(error instanceof library.MissingPrerequisiteError);
        missingBackends.push({ title, message: error.message, broken });
        // For specs that start the demo, which starts brokers of its own.
        process.env.NATIVE_BROKERS = 'missing';
      }
    }),
  );
}

export async function stopBackends() {
  await Promise.all(running.splice(0).map((backend) => backend.stop()));
}

/** Whether the patterns on the command line select nothing but `*.unit.spec.ts`, which need no backend. */
function onlyUnitSpecs({ rootDir, testPathPatterns }) {
  const patterns = testPathPatterns.toExecutor({ rootDir });
  const specs = ['apps', 'libs', 'demo', 'bench', 'cli', 'test']
    .flatMap((folder) => filesBelow(join(rootDir, folder)))
    .filter((file) => file.endsWith('.spec.ts') && patterns.isMatch(file));
  return specs.length > 0 && specs.every((file) => file.endsWith('.unit.spec.ts'));
}

function filesBelow(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    if (entry.name === 'node_modules' || entry.name === 'dist') return [];
    const path = join(folder, entry.name);
    return entry.isDirectory() ? filesBelow(path) : [path];
  });
}

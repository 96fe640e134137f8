import { connectKafka, connectRabbitMq } from '@starter/messaging';
import { readSettings, type BaseSettings } from './configuration.js';
import { createPino, messagingLogger } from './logging.js';
import type { ServiceDefinition } from './service-definition.js';
import { startService } from './start-service.js';

/** Beyond what is in hand a shutdown only closes connections, which is a matter of moments, in milliseconds. */
const closingMs = 5_000;

interface RunningProcess {
  stop(): Promise<void>;
  /** A shutdown that takes longer hangs, in milliseconds. */
  readonly longestStopMs: number;
  /** What is lost to a shutdown that is cut off. */
  inHand(): string;
}

/**
 * The whole life of a service's process: settings from the environment, real brokers, SIGTERM and SIGINT. The first signal
 * ends it in order and with 0; a second one, or a shutdown that takes too long, at once and with 1.
 */
export async function runService<Settings extends BaseSettings>(
  definition: ServiceDefinition<Settings>,
): Promise<void> {
  let running: RunningProcess | undefined;
  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // Until it has started there is nothing that a signal could not simply cut off.
      if (!running) process.exit(0);
      if (stopping) fail(`cut off by a second signal (${signal}); ${running.inHand()}`);
      stopping = true;
      const { longestStopMs, inHand } = running;
      setTimeout(() => fail(`cut off: it did not stop within ${longestStopMs} ms; ${inHand()}`), longestStopMs);
      running.stop().then(() => process.exit(0), fail);
    });
  }
  try {
    running = await start(definition);
  } catch (error) {
    fail(error);
  }
}

async function start<Settings extends BaseSettings>(definition: ServiceDefinition<Settings>): Promise<RunningProcess> {
  const settings = readSettings(definition.settings, process.env);
  const logger = messagingLogger(createPino(definition.name, settings.LOG_LEVEL));
  // Brokers may come up after the services: a minute of patience, then the supervisor starts us again.
  const patience = { logger, startTimeoutMs: 60_000 };
  const [commands, events] = await Promise.all([
    connectRabbitMq({ url: settings.RABBITMQ_URL, connectionName: definition.name, ...patience }),
    connectKafka({ brokers: settings.KAFKA_BROKERS, clientId: definition.name, ...patience }),
  ]);
  const service = await startService(definition, { settings, transports: { commands, events } });
  logger.info('listening', { url: service.url });
  return {
    stop: async () => {
      await service.stop();
      await Promise.all([commands.close(), events.close()]);
    },
    longestStopMs: settings.SHUTDOWN_DELAY_MS + settings.SHUTDOWN_DRAIN_MS + closingMs,
    inHand: () => `the brokers deliver what was in hand again: ${JSON.stringify(service.messaging.inHand)}`,
  };
}

function fail(error: unknown): never {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}

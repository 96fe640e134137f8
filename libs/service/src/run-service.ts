import { checkKafka, connectKafka, connectRabbitMq, type Logger } from '@starter/messaging';
import { readSettings, type BaseSettings } from './configuration.js';
import { connectionsOf } from './connections.js';
import { createPino, messagingLogger } from './logging.js';
import type { ServiceDefinition } from './service-definition.js';
import { startService, type Transports } from './start-service.js';
import type { Startup } from './startup.js';

/** Beyond what is in hand a shutdown only closes connections, which is a matter of moments, in milliseconds. */
const closingMs = 5_000;

interface RunningProcess {
  /** @throws Error when something in hand had to be cut off */
  stop(): Promise<void>;
  /** A shutdown that takes longer hangs, in milliseconds. */
  readonly longestStopMs: number;
  /** What is lost to a shutdown that is cut off. */
  inHand(): string;
}

/**
 * The whole life of a service's process: settings from the environment, real brokers, SIGTERM and SIGINT. The first signal
 * ends it in order, with 0 or, when not all that was in hand could finish, with 1; a second one, or a shutdown that takes too
 * long, at once and with 1.
 */
export async function runService<Settings extends BaseSettings>(
  definition: ServiceDefinition<Settings>,
): Promise<void> {
  const settings = settingsOf(definition);
  const logger = messagingLogger(createPino(definition.name, settings.LOG_LEVEL));
  let running: RunningProcess | undefined;
  let stopping = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      // Until it has started there is nothing that a signal could not simply cut off.
      if (!running) {
        logger.info('stopped before it had started');
        process.exit(0);
      }
      if (stopping) fail(`cut off by a second signal (${signal}); ${running.inHand()}`);
      stopping = true;
      const { longestStopMs, inHand } = running;
      setTimeout(() => fail(`cut off: it did not stop within ${longestStopMs} ms; ${inHand()}`), longestStopMs);
      running.stop().then(() => process.exit(0), fail);
    });
  }
  try {
    running = await start(definition, settings, logger);
  } catch (error) {
    fail(error);
  }
}

function settingsOf<Settings extends BaseSettings>(definition: ServiceDefinition<Settings>): Settings {
  try {
    return readSettings(definition.settings, process.env);
  } catch (error) {
    fail(error);
  }
}

async function start<Settings extends BaseSettings>(
  definition: ServiceDefinition<Settings>,
  settings: Settings,
  logger: Logger,
): Promise<RunningProcess> {
  let transports: Transports | undefined;
  const service = await startService(definition, {
    settings,
    transports: async (startup) => (transports = await connectBrokers(startup, definition.name, settings, logger)),
  });
  logger.info('listening', { url: service.url });
  return {
    stop: async () => {
      await service.stop();
      await Promise.all([transports?.commands.close(), transports?.events.close()]);
      const { cutOff } = service.messaging;
      if (Object.keys(cutOff).length === 0) return;
      throw new Error(
        `not finished within SHUTDOWN_DRAIN_MS (${settings.SHUTDOWN_DRAIN_MS}): ${JSON.stringify(cutOff)}; ` +
          'the brokers deliver these again. Raise it if handlers need longer',
      );
    },
    longestStopMs: settings.SHUTDOWN_DELAY_MS + settings.SHUTDOWN_DRAIN_MS + closingMs,
    inHand: () => `the brokers deliver what was in hand again: ${JSON.stringify(service.messaging.inHand)}`,
  };
}

async function connectBrokers(startup: Startup, name: string, settings: BaseSettings, logger: Logger) {
  const connections = connectionsOf(settings);
  const kafka = { ...connections.kafka, clientId: name, maxRecordBytes: settings.EVENT_MAX_BYTES };
  const [commands, events] = await Promise.all([
    startup.waitFor('RabbitMQ', () =>
      connectRabbitMq({ ...connections.rabbitMq, connectionName: name, logger, startTimeoutMs: 0 }),
    ),
    startup.waitFor('Kafka', async () => {
      await checkKafka(kafka);
      return connectKafka({ ...kafka, logger, startTimeoutMs: 60_000 });
    }),
  ]);
  return { commands, events };
}

function fail(error: unknown): never {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}

import { connectKafka, connectRabbitMq } from '@starter/messaging';
import { readSettings, type BaseSettings } from './configuration.js';
import { createPino, messagingLogger } from './logging.js';
import type { ServiceDefinition } from './service-definition.js';
import { startService } from './start-service.js';

/** The whole life of a service's process: settings from the environment, real brokers, SIGTERM and SIGINT. */
export async function runService<Settings extends BaseSettings>(
  definition: ServiceDefinition<Settings>,
): Promise<void> {
  // Until it has started there is nothing that a signal could not simply cut off.
  let stop = (): Promise<void> => Promise.resolve();
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.once(signal, () => void stop().then(() => process.exit(0), fail));
  }
  try {
    stop = await start(definition);
  } catch (error) {
    fail(error);
  }
}

async function start<Settings extends BaseSettings>(definition: ServiceDefinition<Settings>) {
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
  return async () => {
    logger.info('stopping');
    await service.stop();
    await Promise.all([commands.close(), events.close()]);
  };
}

function fail(error: unknown): never {
  console.error(error instanceof Error ? error.message : error);
  process.exit(1);
}

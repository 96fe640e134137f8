import { type DynamicModule, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import { TerminusModule } from '@nestjs/terminus';
import { TypeOrmModule } from '@nestjs/typeorm';
import {
  CreateMessagingTables1760000000001,
  Messaging,
  MessagingModule,
  type CommandTransport,
  type EventTransport,
} from '@starter/messaging';
import { Logger as NestPino, LoggerModule } from 'nestjs-pino';
import type { DataSourceOptions } from 'typeorm';
import type { BaseSettings } from './configuration.js';
import { CreateIdempotencyKeys1760000000003 } from './create-idempotency-keys.migration.js';
import { HealthController } from './health.controller.js';
import { createPino, messagingLogger } from './logging.js';
import { refuseWhileOutboxIsHigh } from './outbox-edge.js';
import { openDatabase } from './open-database.js';
import { MetricsController } from './metrics.controller.js';
import { ProblemFilter } from './problem.filter.js';
import type { ServiceDefinition } from './service-definition.js';
import { shutDown } from './shut-down.js';
import { TaskController } from './task.controller.js';

export interface Transports {
  readonly commands: CommandTransport;
  readonly events: EventTransport;
}

export interface StartOptions<Settings> {
  readonly settings: Settings;
  /** Owned by the caller, who closes them after `stop()`. */
  readonly transports: Transports;
  /** Named in the error when the port is taken. Default `PORT`. */
  readonly portVariable?: string;
}

export interface RunningService {
  readonly name: string;
  readonly url: string;
  readonly messaging: Messaging;
  readonly app: NestFastifyApplication;
  /** Takes nothing new, finishes what is in hand, closes the database. */
  stop(): Promise<void>;
}

@Module({})
class ServiceModule {}

/** Migrates the database, attaches to the brokers and listens; resolves when the service is ready. */
export async function startService<Settings extends BaseSettings>(
  definition: ServiceDefinition<Settings>,
  options: StartOptions<Settings>,
): Promise<RunningService> {
  const { settings } = options;
  const { bodyLimit = 64 * 1024 } = definition;
  const log = createPino(definition.name, settings.LOG_LEVEL);
  const logger = messagingLogger(log);
  const dataSource = await openDatabase(databaseOptions(definition, settings), logger);
  const root: DynamicModule = {
    module: ServiceModule,
    imports: [
      LoggerModule.forRoot({ pinoHttp: { logger: log, autoLogging: settings.LOG_LEVEL === 'debug' } }),
      TypeOrmModule.forRootAsync({
        useFactory: () => ({ type: 'postgres', retryAttempts: 0 }),
        dataSourceFactory: () => Promise.resolve(dataSource),
      }),
      MessagingModule.forRoot({
        service: definition.name,
        ...options.transports,
        logger,
        partitions: settings.EVENT_PARTITIONS,
        prefetch: settings.COMMAND_PREFETCH,
        ...retentionOf(settings),
        outboxMarks: { rows: settings.OUTBOX_HIGH_ROWS, ageMs: 1_000 * settings.OUTBOX_HIGH_AGE_SECONDS },
        drainMs: settings.SHUTDOWN_DRAIN_MS,
        stalledMs: settings.STALLED_AFTER_MS,
        ...(settings.PERSONAL_DATA_KEY === undefined ? {} : { personalDataKey: settings.PERSONAL_DATA_KEY }),
      }),
      TerminusModule.forRoot({ errorLogStyle: 'json', logger: false }),
      definition.module(settings),
    ],
    controllers: [HealthController, MetricsController, TaskController],
  };
  const app = await NestFactory.create<NestFastifyApplication>(root, new FastifyAdapter({ bodyLimit }), {
    bufferLogs: true,
    abortOnError: false,
  }).catch(async (error: unknown) => {
    await dataSource.destroy();
    throw error;
  });
  app.useLogger(app.get(NestPino));
  app.useGlobalFilters(new ProblemFilter(logger, bodyLimit));
  refuseWhileOutboxIsHigh(app.getHttpAdapter().getInstance(), app.get(Messaging).relay.backlog);
  const document = new DocumentBuilder().setTitle(definition.name).setDescription(definition.description).build();
  SwaggerModule.setup('docs', app, () => SwaggerModule.createDocument(app, document));
  try {
    await app.listen(settings.PORT ?? definition.defaultPort, settings.HOST);
  } catch (error) {
    await app.close();
    throw portError(error, definition.name, options.portVariable ?? 'PORT');
  }
  const { port } = app.getHttpServer().address() as { port: number };
  const stopOptions = { delayMs: settings.SHUTDOWN_DELAY_MS, drainMs: settings.SHUTDOWN_DRAIN_MS };
  let stopping: Promise<void> | undefined;
  return {
    name: definition.name,
    url: `http://127.0.0.1:${port}`,
    messaging: app.get(Messaging),
    app,
    stop: () => (stopping ??= shutDown(app, stopOptions)),
  };
}

const day = 86_400_000;

function retentionOf(settings: BaseSettings) {
  const retentionMs = settings.IDEMPOTENCY_KEY_RETENTION_DAYS * day;
  return {
    inboxRetentionMs: settings.INBOX_RETENTION_DAYS * day,
    discardedRetentionMs: settings.DISCARDED_RETENTION_DAYS * day,
    retained: [{ table: 'idempotency_key', column: 'answered_at', retentionMs }],
  };
}

function databaseOptions(
  { entities, migrations }: Pick<ServiceDefinition, 'entities' | 'migrations'>,
  settings: BaseSettings,
): DataSourceOptions {
  return {
    type: 'postgres',
    url: settings.DATABASE_URL,
    entities,
    migrations: [CreateMessagingTables1760000000001, CreateIdempotencyKeys1760000000003, ...migrations],
    poolSize: settings.DATABASE_POOL,
    // Statements that are sent together share a round trip.
    extra: { pipeline: true },
    logging: false,
  };
}

function portError(error: unknown, service: string, variable: string): unknown {
  if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') return error;
  const { port } = error as { port?: number };
  return new Error(`port ${port ?? ''} of ${service} is in use; set ${variable} to a free one`, { cause: error });
}

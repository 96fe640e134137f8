import { type DynamicModule, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { FastifyAdapter, type NestFastifyApplication } from '@nestjs/platform-fastify';
import { DocumentBuilder, SwaggerModule } from '@nestjs/swagger';
import { TerminusModule } from '@nestjs/terminus';
import { TypeOrmModule } from '@nestjs/typeorm';
import {
  connectMessaging,
  CreateMessagingTables1760000000001,
  databaseOptions,
  Messaging,
  MessagingModule,
  type CommandTransport,
  type EventTransport,
  type RetainedTable,
} from '@starter/messaging';
import { Logger as NestPino, LoggerModule } from 'nestjs-pino';
import type { Logger as Pino } from 'pino';
import type { DataSource, DataSourceOptions } from 'typeorm';
import { limitWrites } from './access/limit-writes.js';
import { addressesOf, idempotencySecretOf, readCredentials } from './access/read-access.js';
import { RouteGuard } from './access/route-guard.js';
import type { Credentials } from './access/credentials.js';
import type { BaseSettings } from './configuration.js';
import { databaseOf } from './connections.js';
import { CreateIdempotencyKeys1760000000003 } from './create-idempotency-keys.migration.js';
import { HealthController } from './health.controller.js';
import { acceptOnlyJson } from './json-only.js';
import { IdempotencyKeys } from './idempotency-key.js';
import { createPino, messagingLogger } from './logging.js';
import { refuseWhileOutboxIsHigh } from './outbox-edge.js';
import { maskSealedTexts } from './mask-sealed-texts.js';
import { openDatabase } from './open-database.js';
import { MetricsController } from './metrics.controller.js';
import { ServiceMetrics } from './prometheus.js';
import { ProblemFilter } from './problem.filter.js';
import type { ServiceDefinition } from './service-definition.js';
import { shutDown } from './shut-down.js';
import { Startup } from './startup.js';
import { refuseUnstorable } from './storable-requests.js';
import { StartupServer, type Addresses } from './startup-server.js';
import { Waits } from './waits.js';

export interface Transports {
  readonly commands: CommandTransport;
  readonly events: EventTransport;
}

export interface StartOptions<Settings> {
  readonly settings: Settings;
  /** Connected, or how to connect those that may come up late. Owned by the caller, who closes them after `stop()`. */
  readonly transports: Transports | ((startup: Startup) => Promise<Transports>);
  /** Named in the error when the port is taken. Default `PORT`. */
  readonly portVariable?: string;
}

export interface RunningService {
  readonly name: string;
  /** Of the product. */
  readonly url: string;
  /** Of health, metrics, the description of the API, and what else is for operators. */
  readonly managementUrl: string;
  readonly messaging: Messaging;
  readonly app: NestFastifyApplication;
  /** Takes nothing new, finishes what is in hand, closes the database. */
  stop(): Promise<void>;
}

@Module({})
class ServiceModule {}

/** What everything in a service may ask for. */
@Module({})
class FrameModule {}

/**
 * Listens, waits for the database and the brokers, migrates, and attaches to the brokers; resolves when the service is ready.
 * Until then its probes tell what is missing.
 */
export async function startService<Settings extends BaseSettings>(
  definition: ServiceDefinition<Settings>,
  options: StartOptions<Settings>,
): Promise<RunningService> {
  const { name, defaultPort } = definition;
  const { settings, transports } = options;
  const log = createPino(name, settings.LOG_LEVEL);
  const startup = new Startup(messagingLogger(log));
  const credentials = await readCredentials(settings);
  const keys = new IdempotencyKeys(idempotencySecretOf(settings, credentials === undefined));
  const addresses = addressesOf(settings, defaultPort, credentials === undefined);
  const server = await StartupServer.listen(startup, addresses).catch((error: unknown) => {
    throw portError(error, name, addresses, options.portVariable ?? 'PORT');
  });
  try {
    const [dataSource, connected] = await Promise.all([
      startup.waitFor('PostgreSQL', () => openDatabase(dataSourceOptions(definition, settings))),
      typeof transports === 'function' ? transports(startup) : transports,
    ]);
    const app = await createApp(definition, {
      settings,
      log,
      dataSource,
      transports: connected,
      server,
      credentials,
      keys,
    });
    const fastify = app.getHttpAdapter().getInstance();
    try {
      await connectMessaging(app);
      await app.init();
      await fastify.ready();
      app.get(RouteGuard).check();
    } catch (error) {
      await app.close();
      throw error;
    }
    server.handOver(fastify.routing);
    const stopOptions = { delayMs: settings.SHUTDOWN_DELAY_MS, drainMs: settings.SHUTDOWN_DRAIN_MS };
    let stopping: Promise<void> | undefined;
    return {
      name,
      url: `http://127.0.0.1:${server.port}`,
      managementUrl: `http://127.0.0.1:${server.managementPort}`,
      messaging: app.get(Messaging),
      app,
      stop: () => (stopping ??= shutDown(app, server, stopOptions)),
    };
  } catch (error) {
    startup.end();
    server.close();
    throw error;
  }
}

interface AppParts<Settings> {
  readonly settings: Settings;
  readonly log: Pino;
  /** Closed with the application. */
  readonly dataSource: DataSource;
  readonly transports: Transports;
  readonly server: StartupServer;
  readonly credentials: Credentials | undefined;
  readonly keys: IdempotencyKeys;
}

async function createApp<Settings extends BaseSettings>(
  definition: ServiceDefinition<Settings>,
  { settings, log, dataSource, transports, server, credentials, keys }: AppParts<Settings>,
): Promise<NestFastifyApplication> {
  const { bodyLimit = 64 * 1024 } = definition;
  const logger = messagingLogger(log);
  const guard = new RouteGuard({ credentials, logger, isManagement: server.isManagement });
  const waits = new Waits(settings.WAITING_REQUESTS);
  const frame: DynamicModule = {
    module: FrameModule,
    global: true,
    providers: [
      { provide: Waits, useValue: waits },
      { provide: IdempotencyKeys, useValue: keys },
      {
        provide: ServiceMetrics,
        inject: [Messaging],
        useFactory: (messaging: Messaging) => new ServiceMetrics(messaging),
      },
    ],
    exports: [Waits, IdempotencyKeys, ServiceMetrics],
  };
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
        ...transports,
        logger,
        contracts: definition.contracts,
        partitions: settings.EVENT_PARTITIONS,
        topicPartitions: settings.TOPIC_PARTITIONS,
        eventRetentionMs: settings.EVENT_RETENTION_DAYS < 0 ? -1 : settings.EVENT_RETENTION_DAYS * day,
        longestOutageMs: settings.LONGEST_OUTAGE_DAYS * day,
        prefetch: settings.COMMAND_PREFETCH,
        ...retentionOf(settings, definition.retained),
        mostEventBytes: settings.EVENT_MAX_BYTES,
        outboxMarks: { rows: settings.OUTBOX_HIGH_ROWS, ageMs: 1_000 * settings.OUTBOX_HIGH_AGE_SECONDS },
        drainMs: settings.SHUTDOWN_DRAIN_MS,
        stalledMs: settings.STALLED_AFTER_MS,
        stuckMs: settings.STUCK_AFTER_MS,
      }),
      TerminusModule.forRoot({ errorLogStyle: 'json', logger: false }),
      frame,
      definition.module(settings),
    ],
    controllers: [HealthController, MetricsController],
    providers: [{ provide: RouteGuard, useValue: guard }],
  };
  const adapter = new FastifyAdapter({
    bodyLimit,
    serverFactory: () => server.product,
    trustProxy: settings.TRUSTED_PROXIES ?? false,
  });
  const fastify = adapter.getInstance();
  // In this order: who it is comes first, and the body is read after the last of them.
  guard.install(fastify);
  acceptOnlyJson(fastify);
  refuseUnstorable(fastify);
  maskSealedTexts(fastify);
  limitWrites(fastify, { perSecond: settings.CLIENT_WRITES_PER_SECOND, burst: settings.CLIENT_WRITES_BURST });
  const app = await NestFactory.create<NestFastifyApplication>(root, adapter, {
    bufferLogs: true,
    abortOnError: false,
  }).catch(async (error: unknown) => {
    await dataSource.destroy();
    throw error;
  });
  app.useLogger(app.get(NestPino));
  app.useGlobalFilters(new ProblemFilter(logger, bodyLimit));
  refuseWhileOutboxIsHigh(fastify, app.get(Messaging).relay.backlog);
  const document = new DocumentBuilder()
    .setTitle(definition.name)
    .setDescription(definition.description)
    .addBearerAuth()
    .build();
  // No "try it out": the page is on another port than the product, which no page may call.
  const swaggerOptions = { supportedSubmitMethods: [] };
  SwaggerModule.setup('docs', app, () => SwaggerModule.createDocument(app, document), { swaggerOptions });
  return app;
}

const day = 86_400_000;

function retentionOf(settings: BaseSettings, retained: readonly RetainedTable[] = []) {
  const retentionMs = settings.IDEMPOTENCY_KEY_RETENTION_DAYS * day;
  return {
    inboxRetentionMs: settings.INBOX_RETENTION_DAYS * day,
    discardedRetentionMs: settings.DISCARDED_RETENTION_DAYS * day,
    retained: [{ table: 'idempotency_key', column: 'answered_at', retentionMs }, ...retained],
  };
}

function dataSourceOptions(
  { entities, migrations }: Pick<ServiceDefinition, 'entities' | 'migrations'>,
  settings: BaseSettings,
): DataSourceOptions {
  return {
    ...databaseOptions({
      ...databaseOf(settings),
      poolSize: settings.DATABASE_POOL,
      preparedStatements: settings.DATABASE_PREPARED_STATEMENTS,
    }),
    entities,
    migrations: [CreateMessagingTables1760000000001, CreateIdempotencyKeys1760000000003, ...migrations],
    logging: false,
  };
}

function portError(error: unknown, service: string, { managementPort }: Addresses, variable: string): unknown {
  if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') return error;
  const { port } = error as { port?: number };
  const toSet = port === managementPort ? variable.replace(/PORT$/, 'MANAGEMENT_PORT') : variable;
  return new Error(`port ${port ?? ''} of ${service} is in use; set ${toSet} to a free one`, { cause: error });
}

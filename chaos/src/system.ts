import { services, type ServiceName } from '@starter/contracts';
import { MailCatcher } from '@starter/demo';
import { freePorts } from '@starter/local-backends';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'pg';
import { startBackends, type Backends } from './backends.js';
import { ServiceProcess } from './service-process.js';

/** The whole system: real brokers and database behind proxies, every service a process of its own. */
export interface System {
  readonly backends: Backends;
  readonly mails: MailCatcher;
  /** The first instance of each. */
  readonly services: Readonly<Record<ServiceName, ServiceProcess>>;
  /** All that have run, those that were stopped among them. */
  readonly instances: readonly ServiceProcess[];
  /** Those of a service that run, or are being started again. */
  instancesOf(service: ServiceName): readonly ServiceProcess[];
  /** URL of a service's database, past the proxy. */
  databaseOf(service: ServiceName): string;
  /** Another instance of a service, not started; whoever asks for it stops it. */
  another(service: ServiceName): Promise<ServiceProcess>;
  stop(): Promise<void>;
}

const personalDataKey = Buffer.alloc(32, 'chaos').toString('base64');

export async function startSystem(folder: string): Promise<System> {
  const backends = await startBackends(folder);
  const mails = new MailCatcher();
  const smtpUrl = await mails.listen();
  const databaseOf = (service: string): string => withDatabase(backends.postgres.server.url, service);
  const server = new Client({ connectionString: backends.postgres.server.url });
  await server.connect();
  for (const service of services) await server.query(`CREATE DATABASE ${databaseName(service)}`);
  await server.end();

  const instances: ServiceProcess[] = [];
  const another = async (service: ServiceName): Promise<ServiceProcess> => {
    const [port = 0, managementPort = 0] = await freePorts(2);
    const number = instances.filter((one) => one.service === service).length + 1;
    const name = number === 1 ? service : `${service}-${number}`;
    const instance = new ServiceProcess({
      service,
      name,
      main: mainOf(service),
      port,
      managementPort,
      logFile: join(folder, `${name}.log`),
      environment: {
        HOST: '127.0.0.1',
        LOG_LEVEL: 'info',
        DATABASE_URL: withDatabase(backends.postgres.url, service),
        RABBITMQ_URL: backends.rabbitMq.url,
        KAFKA_BROKERS: backends.kafka.url,
        PERSONAL_DATA_KEY: personalDataKey,
        SMTP_URL: smtpUrl,
        // All load comes from one address.
        CLIENT_WRITES_PER_SECOND: '100000',
      },
    });
    instances.push(instance);
    return instance;
  };
  const running: Partial<Record<ServiceName, ServiceProcess>> = {};
  for (const service of services) running[service] = await another(service);
  // Clients have somewhere to go while one of the edges is down.
  await another('user-service');
  for (const one of instances) one.start();
  await Promise.all(instances.map(whenReady));
  return {
    backends,
    mails,
    services: running as Record<ServiceName, ServiceProcess>,
    instances,
    instancesOf: (service) => instances.filter((one) => one.service === service && one.wanted),
    databaseOf,
    another,
    stop: async () => {
      await Promise.all(instances.map((one) => one.stop()));
      await mails.close();
      await backends.stop();
    },
  };
}

export async function whenReady(service: ServiceProcess): Promise<void> {
  const deadline = performance.now() + 120_000;
  while (!(await service.ready())) {
    if (performance.now() > deadline) throw new Error(`${service.name} is not ready after 120 s; read its log`);
    await sleep(100);
  }
}

const databaseName = (service: string): string => service.replaceAll('-', '_');

function withDatabase(url: string, service: string): string {
  const database = new URL(url);
  database.pathname = `/${databaseName(service)}`;
  return database.href;
}

/** The built entry of a service's package. */
const mainOf = (service: ServiceName): string =>
  join(dirname(createRequire(import.meta.url).resolve(`@starter/${service}`)), 'main.js');

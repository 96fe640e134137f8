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
  readonly services: Readonly<Record<ServiceName, ServiceProcess>>;
  /** URL of a service's database, past the proxy. */
  databaseOf(service: ServiceName): string;
  /** Another instance of a service; whoever asks for it stops it. */
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

  const processOf = async (service: ServiceName, instance: string): Promise<ServiceProcess> => {
    const [port = 0] = await freePorts(1);
    return new ServiceProcess({
      name: instance,
      main: mainOf(service),
      port,
      logFile: join(folder, `${instance}.log`),
      environment: {
        HOST: '127.0.0.1',
        LOG_LEVEL: 'info',
        DATABASE_URL: withDatabase(backends.postgres.url, service),
        RABBITMQ_URL: backends.rabbitMq.url,
        KAFKA_BROKERS: backends.kafka.url,
        PERSONAL_DATA_KEY: personalDataKey,
        SMTP_URL: smtpUrl,
      },
    });
  };
  const processes = await Promise.all(services.map(async (name) => [name, await processOf(name, name)] as const));
  const running = Object.fromEntries(processes) as Record<ServiceName, ServiceProcess>;
  for (const one of Object.values(running)) one.start();
  await Promise.all(Object.values(running).map(whenReady));
  let instances = 1;
  return {
    backends,
    mails,
    services: running,
    databaseOf,
    another: async (service) => processOf(service, `${service}-${(instances += 1)}`),
    stop: async () => {
      await Promise.all(Object.values(running).map((one) => one.stop()));
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

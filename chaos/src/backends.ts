import { freePorts, startKafka, startPostgres, startRabbitMq, type Backend } from '@starter/local-backends';
import { join } from 'node:path';
import { TcpProxy } from './tcp-proxy.js';

/** A real server, and the proxy through which the services see it. */
export interface Behind {
  readonly server: Backend;
  readonly proxy: TcpProxy;
  /** Through the proxy. */
  readonly url: string;
}

export interface Backends {
  readonly rabbitMq: Behind;
  readonly kafka: Behind;
  readonly postgres: Behind;
  stop(): Promise<void>;
}

export async function startBackends(folder: string): Promise<Backends> {
  const [rabbitPort = 0, kafkaPort = 0, postgresPort = 0] = await freePorts(3);
  const dataDir = join(folder, 'servers');
  const started = await Promise.all([
    behind(startRabbitMq({ dataDir }), rabbitPort),
    behind(startKafka({ dataDir, advertisedPort: kafkaPort }), kafkaPort),
    behind(startPostgres({ dataDir }), postgresPort),
  ]);
  const [rabbitMq, kafka, postgres] = started;
  const stop = async () => {
    await Promise.all(started.map(({ proxy }) => proxy.close()));
    await Promise.all(started.map(({ server }) => server.stop()));
  };
  return { rabbitMq, kafka, postgres, stop };
}

async function behind(starting: Promise<Backend>, port: number): Promise<Behind> {
  const server = await starting;
  const upstream = /:(\d+)(?=\/|$)/.exec(server.url)?.[1] ?? '';
  const proxy = await TcpProxy.listen(Number(upstream), port);
  return { server, proxy, url: server.url.replace(`:${upstream}`, `:${port}`) };
}

import { startKafka, startPostgres, startRabbitMq, startRedis, type Backend } from '@starter/local-backends';
import { migrate, type Logger } from '@starter/messaging';
import { randomUUID } from 'node:crypto';
import { Client } from 'pg';
import { DataSource, type DataSourceOptions } from 'typeorm';

export interface Database {
  readonly url: string;
  drop(): Promise<void>;
}

type Migrations = Extract<NonNullable<DataSourceOptions['migrations']>, readonly unknown[]>;

/** Real servers: those of the environment, else of our own, each started when it is first asked for. */
export class Servers {
  private readonly started: Backend[] = [];
  private readonly urls = new Map<string, Promise<string>>();

  postgres(): Promise<string> {
    return this.once('DATABASE_URL', startPostgres, assertDurable);
  }

  rabbitMq(): Promise<string> {
    return this.once('RABBITMQ_URL', startRabbitMq);
  }

  redis(): Promise<string> {
    return this.once('REDIS_URL', startRedis);
  }

  async kafka(): Promise<string[]> {
    return (await this.once('KAFKA_BROKERS', startKafka)).split(',');
  }

  /** A database of its own. */
  async createDatabase(migrations: Migrations): Promise<Database> {
    const server = await this.postgres();
    const name = uniqueName('bench').replaceAll('-', '_');
    await execute(server, `CREATE DATABASE ${name}`);
    const url = new URL(server);
    url.pathname = `/${name}`;
    const dataSource = await new DataSource({ type: 'postgres', url: url.href, migrations }).initialize();
    await migrate(dataSource);
    await dataSource.destroy();
    return { url: url.href, drop: async () => void (await execute(server, `DROP DATABASE ${name} WITH (FORCE)`)) };
  }

  /** No trial pays for the writes of another one. */
  async settle(): Promise<void> {
    if (this.urls.has('DATABASE_URL')) await execute(await this.postgres(), 'CHECKPOINT');
  }

  async stop(): Promise<void> {
    await Promise.all(this.started.splice(0).map((backend) => backend.stop()));
  }

  private once(variable: string, start: () => Promise<Backend>, check?: (url: string) => Promise<void>) {
    let url = this.urls.get(variable);
    if (!url) {
      url = this.urlOf(variable, start).then(async (found) => {
        await check?.(found);
        return found;
      });
      this.urls.set(variable, url);
    }
    return url;
  }

  private async urlOf(variable: string, start: () => Promise<Backend>): Promise<string> {
    const given = process.env[variable];
    if (given) return given;
    const backend = await start();
    this.started.push(backend);
    return backend.url;
  }
}

/** For databases, queues, topics and groups that belong to one trial. */
export const uniqueName = (prefix: string): string => `${prefix}-${randomUUID()}`;

/** Quiet while all goes well. */
export const logger: Logger = {
  debug: () => undefined,
  info: () => undefined,
  warn: (message, details) => console.error('warning:', message, details),
  error: (message, details) => console.error('error:', message, details),
};

/** A server that does not wait for the disk is fast at something else. */
async function assertDurable(url: string): Promise<void> {
  for (const setting of ['fsync', 'synchronous_commit']) {
    const [row] = await execute(url, `SHOW ${setting}`);
    if (row?.[setting] !== 'on') {
      throw new Error(`PostgreSQL has ${setting} = ${String(row?.[setting])}; switch it on, or unset DATABASE_URL`);
    }
  }
}

async function execute(url: string, statement: string): Promise<Record<string, unknown>[]> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(statement)).rows;
  } finally {
    await client.end();
  }
}

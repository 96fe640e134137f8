import { Socket } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import pg, { type PoolClient, type PoolConfig } from 'pg';
import type { DataSourceOptions } from 'typeorm';
import { coalesceWrites } from '../coalesce-writes.js';
import { DatabaseClient, defaultLimits, type DatabaseLimits } from './database-client.js';
import { DatabaseUnavailableError } from './unavailable.js';

export interface DatabaseOptions {
  readonly url: string;
  /** Over TLS, with these. Default: without. */
  readonly tls?: Pick<ConnectionOptions, 'ca' | 'cert' | 'key' | 'rejectUnauthorized' | 'host'>;
  /** Most connections. Default 10. */
  readonly poolSize?: number;
  readonly limits?: Partial<DatabaseLimits>;
  /** False behind a pooler that does not keep the names of statements (PgBouncer before 1.21). Default true. */
  readonly preparedStatements?: boolean;
  /** How sockets are made. */
  readonly stream?: () => Socket;
  /** Passed to the pool as they are. */
  readonly extra?: PoolConfig;
}

type PostgresOptions = Extract<DataSourceOptions, { readonly type: 'postgres' }>;

/**
 * What a data source needs to reach PostgreSQL as everything here expects it: connections that tell an outage from a failure,
 * with time limits in both directions. Statements that are sent together share a round trip, and a system call on either side.
 */
export function databaseOptions({
  url,
  tls,
  poolSize = 10,
  limits: changed,
  preparedStatements = true,
  stream = openSocket,
  extra,
}: DatabaseOptions) {
  const limits = { ...defaultLimits, ...changed };
  return {
    type: 'postgres',
    url,
    ...(tls ? { ssl: tls } : {}),
    poolSize,
    driver: { ...pg, Pool: DatabasePool, Client: DatabaseClient },
    extra: {
      pipeline: true,
      stream,
      limits,
      preparedStatements,
      connectionTimeoutMillis: limits.connectMs,
      // A connection that nobody uses may have been lost without a word.
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
      onConnect: (client: DatabaseClient) => client.openSession(),
      ...extra,
    },
  } satisfies PostgresOptions;
}

/** A socket whose writes of one turn of the event loop leave together. */
export function openSocket(): Socket {
  const socket = new Socket();
  // To connect resets how it writes.
  return socket.once('connect', () => coalesceWrites(socket));
}

type ConnectCallback = (
  error: Error | undefined,
  client: PoolClient | undefined,
  release: (error?: unknown) => void,
) => void;

/** Whatever keeps it from giving a connection, the database cannot be used. */
class DatabasePool extends pg.Pool {
  constructor(config: PoolConfig) {
    const clients = new Set<DatabaseClient>();
    const onSilence = (since: number) => clients.forEach((client) => client.distrust(since));
    super(Object.assign({}, config, { Client: DatabaseClient, onSilence }));
    this.on('connect', (client) => void clients.add(client as unknown as DatabaseClient));
    this.on('release', (_, client) => {
      if ((client as unknown as DatabaseClient).outdated) void client.end();
    });
    this.on('remove', (client) => void clients.delete(client as unknown as DatabaseClient));
  }

  override connect(callback?: ConnectCallback): never {
    if (!callback) return super.connect().catch(unavailable) as unknown as never;
    super.connect((error, client, release) => callback(error && new DatabaseUnavailableError(error), client, release));
    return undefined as never;
  }
}

function unavailable(error: unknown): never {
  throw new DatabaseUnavailableError(error);
}

import { databaseOptions } from '@starter/messaging';
import { Pool } from 'pg';
import { DataSource, type EntitySchema, type MixedList } from 'typeorm';

/** A pool whose connections are open already. */
export async function openPool(url: string, size: number): Promise<Pool> {
  const pool = new Pool({ connectionString: url, max: size, idleTimeoutMillis: 0 });
  // A pool has ended before its connections have: dropping the database may be what ends them.
  pool.on('error', () => undefined);
  await fill(pool, size);
  return pool;
}

/** The same for TypeORM. */
export async function openDataSource(
  url: string,
  size: number,
  entities: MixedList<EntitySchema | (new () => object)> = [],
): Promise<DataSource> {
  const options = databaseOptions({ url, poolSize: size, extra: { idleTimeoutMillis: 0 } });
  const dataSource = await new DataSource({ ...options, entities }).initialize();
  await fill((dataSource.driver as unknown as { readonly master: Pool }).master, size);
  return dataSource;
}

async function fill(pool: Pool, size: number): Promise<void> {
  const clients = await Promise.all(Array.from({ length: size }, () => pool.connect()));
  clients.forEach((client) => client.release());
}

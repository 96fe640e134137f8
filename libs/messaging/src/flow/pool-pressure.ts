import type { Pool } from 'pg';
import type { DataSource } from 'typeorm';

/**
 * The queue for database connections, relative to twice the size of the pool: handlers that only wait for one get nothing
 * done, and whoever else needs one has to wait behind them.
 */
export function poolPressure(dataSource: DataSource): () => number {
  const { master } = dataSource.driver as unknown as { readonly master: Pool };
  return () => master.waitingCount / (2 * master.options.max);
}

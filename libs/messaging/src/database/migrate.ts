import type { DataSource } from 'typeorm';

/** Any number that only migrations use: it names the advisory lock. */
const migrationLock = 4_728_113;

/** Runs the pending migrations; instances that start at the same time wait for the first. */
export async function migrate(dataSource: DataSource): Promise<void> {
  const guard = dataSource.createQueryRunner();
  try {
    await guard.query('SELECT pg_advisory_lock($1)', [migrationLock]);
    await dataSource.runMigrations({ transaction: 'each' });
  } finally {
    await guard.query('SELECT pg_advisory_unlock($1)', [migrationLock]).catch(() => undefined);
    await guard.release();
  }
}

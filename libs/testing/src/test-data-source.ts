import { migrate, poolOptions } from '@starter/messaging';
import { DataSource, type DataSourceOptions } from 'typeorm';
import { createTestDatabase } from './test-database.js';

export interface TestDataSource {
  readonly dataSource: DataSource;
  readonly url: string;
  /** Closes the connections and drops the database. */
  close(): Promise<void>;
}

/** A migrated database of its own. */
export async function openTestDataSource(
  migrations: Extract<NonNullable<DataSourceOptions['migrations']>, readonly unknown[]>,
): Promise<TestDataSource> {
  const database = await createTestDatabase();
  const dataSource = await new DataSource({
    type: 'postgres',
    url: database.url,
    migrations,
    poolSize: 20,
    extra: poolOptions,
  }).initialize();
  await migrate(dataSource);
  return {
    dataSource,
    url: database.url,
    close: async () => {
      await dataSource.destroy();
      await database.drop();
    },
  };
}

import { migrate, databaseOptions } from '@starter/messaging';
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
  more: Pick<DataSourceOptions, 'entities'> = {},
): Promise<TestDataSource> {
  const database = await createTestDatabase();
  const dataSource = await new DataSource({
    ...databaseOptions({ url: database.url, poolSize: 20 }),
    migrations,
    ...more,
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

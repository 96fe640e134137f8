import { MigrationExecutor, type DataSource } from 'typeorm';
import { DatabaseClient } from './database-client.js';
import { exclusively } from './exclusively.js';

/** Runs the pending migrations; instances that start at the same time wait for the first. A statement may take as long as it takes. */
export async function migrate(dataSource: DataSource): Promise<void> {
  await exclusively(dataSource, { task: 'migrate' }, async () => {
    const runner = dataSource.createQueryRunner();
    const client: unknown = await runner.connect();
    try {
      if (client instanceof DatabaseClient) client.limitStatements(0);
      const executor = new MigrationExecutor(dataSource, runner);
      executor.transaction = 'each';
      await executor.executePendingMigrations();
    } finally {
      if (client instanceof DatabaseClient) client.limitStatements();
      await runner.release();
    }
  });
}

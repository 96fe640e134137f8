import { errorText, migrate } from '@starter/messaging';
import { DataSource, type DataSourceOptions } from 'typeorm';

/**
 * Opens the database and migrates it.
 * @throws Error that names the server and says what to do; its cause tells whether waiting helps
 */
export async function openDatabase(options: DataSourceOptions): Promise<DataSource> {
  const dataSource = new DataSource(options);
  try {
    await dataSource.initialize();
    await migrate(dataSource);
    return dataSource;
  } catch (error) {
    if (dataSource.isInitialized) await dataSource.destroy();
    throw new Error(
      `the database at ${serverOf(options)} cannot be used (${errorText(error)}): start it, or correct DATABASE_URL`,
      { cause: error },
    );
  }
}

/** Without the password. */
function serverOf(options: DataSourceOptions): string {
  const { url } = options as { readonly url?: string };
  return url && URL.canParse(url) ? new URL(url).host : 'the configured address';
}

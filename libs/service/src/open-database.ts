import { setTimeout as sleep } from 'node:timers/promises';
import { backoffDelay, errorText, migrate, type Logger } from '@starter/messaging';
import { DataSource, type DataSourceOptions } from 'typeorm';

const patience = { startTimeoutMs: 60_000, backoff: { baseMs: 200, maxMs: 2_000 } };

/** The server cannot be reached, or is still starting; everything else does not get better by waiting. */
const notThereYet = /^(ECONNREFUSED|ECONNRESET|ENOTFOUND|EAI_AGAIN|ETIMEDOUT|EHOSTUNREACH|57P03|53300)$/;

/**
 * Opens the database, which may come up later than the service, and migrates it.
 * @throws Error that names the server when it is not there within `startTimeoutMs` (default 60 000), or refuses
 */
export async function openDatabase(
  options: DataSourceOptions,
  logger: Logger,
  { startTimeoutMs = patience.startTimeoutMs }: { readonly startTimeoutMs?: number } = {},
): Promise<DataSource> {
  const dataSource = await connect(options, logger, startTimeoutMs);
  try {
    await migrate(dataSource);
    return dataSource;
  } catch (error) {
    await dataSource.destroy();
    throw error;
  }
}

async function connect(options: DataSourceOptions, logger: Logger, startTimeoutMs: number): Promise<DataSource> {
  const server = serverOf(options);
  const deadline = Date.now() + startTimeoutMs;
  for (let failures = 1; ; failures += 1) {
    try {
      return await new DataSource(options).initialize();
    } catch (error) {
      const { code = '' } = error as { readonly code?: string };
      if (!notThereYet.test(code) || Date.now() > deadline) {
        throw new Error(
          `the database at ${server} cannot be used (${errorText(error)}): start it, or correct DATABASE_URL`,
          { cause: error },
        );
      }
      logger.warn(`waiting for the database at ${server}`, { failures, error: errorText(error) });
      await sleep(backoffDelay(failures, patience.backoff));
    }
  }
}

/** Without the password. */
function serverOf(options: DataSourceOptions): string {
  const { url } = options as { readonly url?: string };
  return url && URL.canParse(url) ? new URL(url).host : 'the configured address';
}

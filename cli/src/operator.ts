import { Command, InvalidArgumentError, Option } from '@commander-js/extra-typings';
import { databaseOptions } from '@starter/messaging';
import { DataSource } from 'typeorm';
import { connectionSettings, databaseOf, readSettings } from '@starter/service';
import { services, type OperatedService } from './services.js';

/** What every command of operators takes. */
export interface OperatorOptions {
  readonly service: string;
  readonly databaseUrl?: string | undefined;
  readonly json?: true | undefined;
}

/** A top-level command, `npm run <name> -- …`, with the options that all of them have; subcommands take them as well. */
export const operatorCommand = (name: string, description: string) =>
  new Command(`npm run ${name} --`)
    .description(description)
    .addOption(
      new Option('--service <name>', 'whose database it is').choices(Object.keys(services)).default('user-service'),
    )
    .addOption(new Option('--database-url <url>', 'the database of that service').env('DATABASE_URL'))
    .option('--json', 'for programs: JSON, one value per line')
    .configureHelp({ showGlobalOptions: true });

export function serviceOf({ service }: OperatorOptions): OperatedService {
  const operated = services[service];
  if (!operated) throw new Error(`there is no ${service}; add it to cli/src/services.ts`);
  return operated;
}

/**
 * Connects for as long as `work` takes. Nothing is migrated: a command that looks at a database leaves it as it is.
 * @throws Error when there is no such database, or when it is not that of a service
 */
export async function withDatabase<T>(
  { service, databaseUrl }: OperatorOptions,
  work: (dataSource: DataSource) => Promise<T>,
): Promise<T> {
  if (!databaseUrl) throw new Error(`set DATABASE_URL to the database of ${service}, or give --database-url`);
  const dataSource = new DataSource({
    // Times that PostgreSQL writes as text read the same wherever it runs.
    ...databaseOptions({ ...databaseOf(settingsWith(databaseUrl)), extra: { options: '-c TimeZone=UTC' } }),
    applicationName: 'operator',
  });
  await dataSource.initialize().catch((error: unknown) => {
    const what = `the database of ${service} cannot be reached: ${(error as Error).message}`;
    throw new Error(`${what}; check DATABASE_URL or --database-url`, { cause: error });
  });
  try {
    const [log] = await dataSource.query<{ found: boolean }[]>(
      `SELECT to_regclass('archived_stream') IS NOT NULL AS found`,
    );
    if (!log?.found) {
      const what = 'the database has no event log, or one of an older release';
      throw new Error(`${what}; start ${service} once, which migrates it, or name another database`);
    }
    return await work(dataSource);
  } finally {
    await dataSource.destroy();
  }
}

const settingsWith = (databaseUrl: string) =>
  readSettings(connectionSettings, { ...process.env, DATABASE_URL: databaseUrl });

const instant = /^\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}(:\d{2}(\.\d+)?)?(Z|[+-]\d{2}:\d{2}))?$/;

/** For an option or argument that is an instant. */
export function toInstant(text: string): Date {
  const date = new Date(text);
  if (instant.test(text) && !Number.isNaN(date.getTime())) return date;
  throw new InvalidArgumentError('Write it like 2026-11-25T08:30:00Z or, for the beginning of the day, 2026-11-25.');
}

/** For an option or argument that counts. */
export function toWholeNumber(text: string): number {
  const number = Number(text);
  if (/^\d+$/.test(text) && Number.isSafeInteger(number)) return number;
  throw new InvalidArgumentError('It is a whole number.');
}

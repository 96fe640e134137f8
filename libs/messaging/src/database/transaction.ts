import type { ClientBase, Pool, QueryResultRow } from 'pg';
import type { DataSource, EntityManager } from 'typeorm';

/** The service's own database cannot be reached; no message is to blame, so it costs none an attempt. */
export class DatabaseUnavailableError extends Error {
  override readonly name = 'DatabaseUnavailableError';
  constructor(cause: unknown) {
    super(`the database cannot be reached: ${cause instanceof Error ? cause.message : String(cause)}`, { cause });
  }
}

/** Prepared once per connection under its name; the parameters are `$1` … `$n`. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

/** One open database transaction: plain SQL for the hot path, TypeORM's manager for everything else. */
export interface Transaction {
  readonly manager: EntityManager;
  query<Row extends QueryResultRow>(statement: Statement, values?: readonly unknown[]): Promise<Row[]>;
  /** Runs after the commit, never after a roll-back. It must not throw. */
  afterCommit(action: () => void): void;
}

/**
 * Runs `work` in one transaction and commits; any throw rolls back and is rethrown. When the connection dies during the
 * commit the outcome is unknown: the caller's retry is made harmless by the inbox.
 */
export async function inTransaction<T>(dataSource: DataSource, work: (tx: Transaction) => Promise<T>): Promise<T> {
  const runner = dataSource.createQueryRunner();
  const afterCommit: (() => void)[] = [];
  try {
    const client = (await runner.connect()) as ClientBase;
    await runner.startTransaction();
    const result = await work({
      manager: runner.manager,
      query: async <Row extends QueryResultRow>(statement: Statement, values: readonly unknown[] = []) =>
        (await client.query<Row>({ ...statement, values: values as unknown[] })).rows,
      afterCommit: (action) => afterCommit.push(action),
    });
    await runner.commitTransaction();
    afterCommit.forEach((action) => action());
    return result;
  } catch (error) {
    // A roll-back on a dead connection fails as well; the first error is the one that tells what happened.
    if (runner.isTransactionActive) await runner.rollbackTransaction().catch(() => undefined);
    throw isOutage(error) ? new DatabaseUnavailableError(error) : error;
  } finally {
    await runner.release();
  }
}

/** One statement by itself, which is its own transaction; prepared, like those of {@link inTransaction}. */
export async function runStatement<Row extends QueryResultRow>(
  dataSource: DataSource,
  statement: Statement,
  values: readonly unknown[] = [],
): Promise<Row[]> {
  const { master } = dataSource.driver as unknown as { readonly master: Pool };
  try {
    return (await master.query<Row>({ ...statement, values: values as unknown[] })).rows;
  } catch (error) {
    throw isOutage(error) ? new DatabaseUnavailableError(error) : error;
  }
}

const outageCodes = /^(08...|57P0[1-5]|53300|ECONNREFUSED|ECONNRESET|EPIPE|ETIMEDOUT|ENOTFOUND)$/;
const outageTexts =
  /Connection terminated|Client has encountered a connection error|timeout exceeded when trying to connect/;

function isOutage(error: unknown): boolean {
  if (!(error instanceof Error)) return false;
  const { code } = error as { code?: unknown };
  return (typeof code === 'string' && outageCodes.test(code)) || outageTexts.test(error.message);
}

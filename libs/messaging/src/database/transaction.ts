import type { ClientBase, Pool, QueryResult, QueryResultRow } from 'pg';
import type { DataSource, EntityManager, QueryRunner } from 'typeorm';
import { failpoint } from '../failpoint.js';

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

/** Whoever works in a transaction may have been given up meanwhile. */
export interface Fence {
  /** @throws the reason why nothing may take effect any more */
  throwIfOver(): void;
  /** Rejects with that reason as soon as it is so. Without it a transaction finds out when it is about to commit. */
  readonly over?: Promise<never>;
}

/** One open database transaction: plain SQL for the hot path, TypeORM's manager for everything else. */
export interface Transaction {
  readonly manager: EntityManager;
  query<Row extends QueryResultRow>(statement: Statement, values?: readonly unknown[]): Promise<Row[]>;
  /** Runs after the commit, never after a roll-back. It must not throw. */
  afterCommit(action: () => void): void;
  /**
   * Waits for the last statements, like {@link together}, and sends COMMIT right behind them; send no more. One that failed
   * before it was sent keeps the others from being committed without it.
   */
  commitBehind(...statements: readonly Promise<unknown>[]): Promise<void>;
}

/**
 * Runs `work` in one transaction and commits; any throw rolls back and is rethrown. When the connection dies during the
 * commit the outcome is unknown: the caller's retry is made harmless by the inbox. Once the `fence` says that it is over, the
 * transaction is rolled back whatever `work` waits for: a next attempt would wait for its locks, and others for its connection.
 *
 * Statements that do not need each other's answers are best sent {@link together}: on a connection with `pipeline` they share
 * a round trip, and so does the beginning of the transaction with the first of them, and its end with the last.
 */
export async function inTransaction<T>(
  dataSource: DataSource,
  work: (tx: Transaction) => Promise<T>,
  fence?: Fence,
): Promise<T> {
  const runner = dataSource.createQueryRunner();
  const afterCommit: (() => void)[] = [];
  let client: ClientBase | undefined;
  let over = false;
  try {
    client = (await runner.connect()) as ClientBase;
    const connection = client;
    const begun = connection.query('BEGIN');
    // Whatever follows fails as well, and tells.
    begun.catch(() => undefined);
    markOpen(runner, true);
    let committed: Promise<QueryResult> | undefined;
    // Async, so that a refusal is met by whoever waits for the commit, who waits for the statements before it first.
    const commit = async () => {
      fence?.throwIfOver();
      failpoint('transaction.before-commit');
      return (committed = connection.query('COMMIT'));
    };
    const working = work({
      manager: runner.manager,
      query: async <Row extends QueryResultRow>(statement: Statement, values: readonly unknown[] = []) => {
        // The connection is somebody else's by now, who must not get the statements of work that was given up.
        if (over) throw new Error(`the transaction is over; wait for ${statement.name} before it ends`);
        return (await connection.query<Row>({ ...statement, values: values as unknown[] })).rows;
      },
      afterCommit: (action) => afterCommit.push(action),
      commitBehind: async (...statements) => {
        let failed = false;
        for (const statement of statements) statement.catch(() => (failed = true));
        // What was never sent has failed by then; what was sent cannot have, and still shares its flight with the COMMIT.
        await Promise.resolve();
        if (!failed) commit().catch(() => undefined);
        await together(...statements);
      },
    });
    const result = await (fence?.over ? Promise.race([working, fence.over]) : working);
    await begun;
    const { command } = await (committed ?? commit());
    if (command !== 'COMMIT')
      throw new Error('a statement of the transaction failed, and the failure was not passed on');
    markOpen(runner, false);
    failpoint('transaction.after-commit');
    afterCommit.forEach((action) => action());
    return result;
  } catch (error) {
    // A roll-back on a dead connection fails as well; the first error is the one that tells what happened.
    if (runner.isTransactionActive) await client?.query('ROLLBACK').catch(() => undefined);
    markOpen(runner, false);
    throw isOutage(error) ? new DatabaseUnavailableError(error) : error;
  } finally {
    over = true;
    await runner.release();
  }
}

/**
 * Waits for statements that were sent together.
 * @throws what the first of them that failed has thrown; those behind it fail only because the transaction is over then
 */
export async function together(...statements: readonly Promise<unknown>[]): Promise<void> {
  for (const statement of statements) statement.catch(() => undefined);
  for (const statement of statements) await statement;
}

/**
 * TypeORM's own way to open a transaction waits for the answer. Its manager has to know of ours all the same, or it would
 * open one within it.
 */
function markOpen(runner: QueryRunner, open: boolean): void {
  Object.assign(runner, { isTransactionActive: open, transactionDepth: open ? 1 : 0 });
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

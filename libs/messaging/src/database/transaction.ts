import type { ClientBase, Pool, QueryResult, QueryResultRow } from 'pg';
import type { DataSource, EntityManager, QueryRunner } from 'typeorm';
import { failpoint } from '../failpoint.js';
import { DatabaseClient } from './database-client.js';
import { TransactionConnection } from './transaction-connection.js';
import { DatabaseUnavailableError, outageOf } from './unavailable.js';

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
  /** Runs once it has ended, however that was, and behind what runs after the commit. It must not throw. */
  afterEnd(action: () => void): void;
  /**
   * Waits for the last statements, like {@link together}, and sends COMMIT right behind them; send no more. One that failed
   * before it was sent keeps the others from being committed without it.
   */
  commitBehind(...statements: readonly Promise<unknown>[]): Promise<void>;
}

export interface TransactionLimits {
  /** How long the answer to a statement may take, in milliseconds; 0 = without a limit. Default that of the connection. */
  readonly statementMs?: number;
  /** False where it only holds a lock for work outside of it: nothing of a message is committed by it. Default true. */
  readonly failpoints?: boolean;
}

/** For work that reads or writes a whole log: statements of an hour at most. */
export const maintenance: TransactionLimits = { statementMs: 3_600_000 };

/**
 * Runs `work` in one transaction and commits; any throw rolls back and is rethrown. When the connection dies during the
 * commit the outcome is unknown: the caller's retry is made harmless by the inbox. Once the `fence` says that it is over, the
 * transaction is rolled back whatever `work` waits for: a next attempt would wait for its locks, and others for its connection.
 * A transaction that has ended takes no more statements, whoever still works in it.
 *
 * Statements that do not need each other's answers are best sent {@link together}: on a connection with `pipeline` they share
 * a round trip, and so does the beginning of the transaction with the first of them, and its end with the last.
 * @throws DatabaseUnavailableError when the database failed and not `work`
 */
export async function inTransaction<T>(
  dataSource: DataSource,
  work: (tx: Transaction) => Promise<T>,
  fence?: Fence,
  limits: TransactionLimits = {},
): Promise<T> {
  const runner = dataSource.createQueryRunner() as PostgresRunner;
  const client = await runner.connect().catch(unavailable);
  if (client instanceof DatabaseClient) client.limitStatements(limits.statementMs);
  const connection = new TransactionConnection(client);
  runner.databaseConnection = connection.facade;
  const afterCommit: (() => void)[] = [];
  const afterEnd: (() => void)[] = [];
  let usable = true;
  try {
    const begun = connection.begin();
    // Whatever follows fails as well, and tells.
    begun.catch(() => undefined);
    markOpen(runner, true);
    let committed: Promise<QueryResult> | undefined;
    // Async, so that a refusal is met by whoever waits for the commit, who waits for the statements before it first.
    const commit = async () => {
      fence?.throwIfOver();
      if (limits.failpoints !== false) failpoint('transaction.before-commit');
      return (committed = connection.commit());
    };
    const working = work({
      manager: runner.manager,
      query: async <Row extends QueryResultRow>(statement: Statement, values: readonly unknown[] = []) =>
        (await connection.query({ ...statement, values: values as unknown[] })).rows as Row[],
      afterCommit: (action) => afterCommit.push(action),
      afterEnd: (action) => afterEnd.push(action),
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
    if (command !== 'COMMIT') throw connection.hiddenOutage ?? new Error(hiddenFailure);
    markOpen(runner, false);
    if (limits.failpoints !== false) failpoint('transaction.after-commit');
    afterCommit.forEach((action) => action());
    return result;
  } catch (error) {
    // First of all: nothing that is still on its way here may be sent behind the ROLLBACK.
    connection.close('was given up');
    const failure = connection.meaningOf(error);
    usable = await connection.rollBack(isOver(fence));
    markOpen(runner, false);
    throw failure;
  } finally {
    afterEnd.forEach((action) => action());
    if (client instanceof DatabaseClient) client.limitStatements();
    await runner.releasePostgresConnection(usable ? undefined : new Error('the connection is not usable any more'));
  }
}

const hiddenFailure = 'a statement of the transaction failed, and the failure was not passed on';

/** What TypeORM's query runner has and its interface does not tell. */
interface PostgresRunner extends QueryRunner {
  /** What all its statements are sent through. */
  databaseConnection: ClientBase;
  connect(): Promise<ClientBase>;
  /** @param error why the pool must not use the connection again */
  releasePostgresConnection(error?: Error): Promise<void>;
}

function unavailable(error: unknown): never {
  throw outageOf(error) ?? new DatabaseUnavailableError(error);
}

function isOver(fence: Fence | undefined): boolean {
  try {
    fence?.throwIfOver();
    return false;
  } catch {
    return true;
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
  return (await master.query<Row>({ ...statement, values: values as unknown[] })).rows;
}

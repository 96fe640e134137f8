import type { DataSource } from 'typeorm';
import { inTransaction, type Statement, type Transaction } from '../database/transaction.js';
import { longestRetryMs, type FailurePolicy } from '../failure-policy.js';
import { errorText, type Logger } from '../logger.js';

/** A table whose old rows nobody needs any more. */
export interface RetainedTable {
  readonly table: string;
  /** Its instant; wants a B-tree: new rows take the places of deleted ones, and the summaries of a BRIN index only get wider. */
  readonly column: string;
  /** Rows are kept for so long, in milliseconds. */
  readonly retentionMs: number;
}

const day = 86_400_000;
/** How long the inbox knows a message. A second copy that comes later takes effect again. */
export const defaultInboxRetentionMs = 30 * day;
export const defaultDiscardedRetentionMs = 90 * day;
/** What waited for its rate limit and was admitted while it had none, so that nobody asked for it: a message that comes later just asks again. */
export const admittedRetentionMs = day;

/**
 * The longest time between the first delivery of a message and the last one that the system itself brings about, in
 * milliseconds: every retry of the policy, and for each attempt its time limit and the time in which the broker notices
 * that a process is gone. Redrives by hand come on top: they are checked when they are asked for.
 */
export function retryHorizonMs(policy: FailurePolicy = {}, attemptLimitMs = 30 * 60_000): number {
  const { maxRetries = 3 } = policy;
  const untilNoticedMs = 60_000;
  return longestRetryMs(policy) + (maxRetries + 1) * (attemptLimitMs + untilNoticedMs);
}

/** @throws Error when the inbox would forget a message that `what` may still be given again */
export function checkInboxRetention(retentionMs: number, horizonMs: number, what: string): void {
  if (retentionMs > horizonMs) return;
  const [retention, horizon] = [retentionMs, horizonMs].map((ms) => `${(ms / 3_600_000).toFixed(1)} h`);
  throw new Error(
    `the inbox keeps message ids for ${retention}, but ${what} may come again after ${horizon}, and would take effect twice: ` +
      'keep them longer (INBOX_RETENTION_DAYS), or retry for less long',
  );
}

const rowsPerBatch = 5_000;

/**
 * Deletes what is too old, a batch per transaction, so that no lock is held for long and vacuum keeps up. One instance of a
 * service at a time: the others find the lock taken and wait for their next turn.
 */
export class RetentionJob {
  private timer: NodeJS.Timeout | undefined;
  private working: Promise<void> | undefined;
  private stopping = false;
  /** Rows deleted since the start. */
  purged = 0;

  constructor(
    private readonly dataSource: DataSource,
    private readonly tables: readonly RetainedTable[],
    private readonly logger: Logger,
    private readonly intervalMs = 60_000,
  ) {}

  start(): void {
    this.timer ??= setInterval(() => void this.run(), this.intervalMs).unref();
  }

  /** Resolves when nothing that is too old is left, or when another instance is at it. */
  run(): Promise<void> {
    this.working ??= this.purgeAll().finally(() => (this.working = undefined));
    return this.working;
  }

  async stop(): Promise<void> {
    this.stopping = true;
    clearInterval(this.timer);
    await this.working;
  }

  private async purgeAll(): Promise<void> {
    for (const table of this.tables) {
      // One table that fails costs the others nothing.
      await this.purge(table).catch((error: unknown) => {
        const details = { table: table.table, error: errorText(error) };
        this.logger.warn('old rows could not be deleted; it is tried again', details);
      });
    }
  }

  private async purge(table: RetainedTable): Promise<void> {
    // Where the last batch has ended: rows that were deleted stay in the index until nobody can see them any more.
    let from = new Date(0);
    for (let rows = rowsPerBatch; rows === rowsPerBatch && !this.stopping;) {
      ({ rows, from } = await this.purgeBatch(table, from));
    }
  }

  private purgeBatch({ table, column, retentionMs }: RetainedTable, from: Date): Promise<Batch> {
    return inTransaction(this.dataSource, async (tx) => {
      if (!(await takeLock(tx, table))) return { rows: 0, from };
      const parameters = [retentionMs / 1000, rowsPerBatch, from];
      const [batch] = await tx.query<{ rows: number; to: Date | null }>(purgeStatement(table, column), parameters);
      const { rows = 0, to } = batch ?? {};
      this.purged += rows;
      return { rows, from: to ?? from };
    });
  }
}

interface Batch {
  readonly rows: number;
  readonly from: Date;
}

/** The oldest first. By physical position, so that no other index is searched. The names are ours, not input. */
export const purgeStatement = (table: string, column: string): Statement => ({
  name: `purge-${table}`,
  text: `WITH deleted AS (
           DELETE FROM ${table} WHERE ctid = ANY(ARRAY(
             SELECT ctid FROM ${table} WHERE ${column} < now() - make_interval(secs => $1) AND ${column} >= $3
              ORDER BY ${column} LIMIT $2))
           RETURNING ${column})
         SELECT count(*)::int AS rows, max(${column}) AS to FROM deleted`,
});

const lock: Statement = {
  name: 'purge-lock',
  text: `SELECT pg_try_advisory_xact_lock(hashtextextended('purge ' || $1, 0)) AS taken`,
};

async function takeLock(tx: Transaction, table: string): Promise<boolean> {
  const [row] = await tx.query<{ taken: boolean }>(lock, [table]);
  return row?.taken ?? false;
}

import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { inTransaction, type Statement, type Transaction } from './transaction.js';

const tryLock: Statement = {
  name: 'try-exclusive',
  text: `SELECT pg_try_advisory_xact_lock(hashtextextended($1, 2)) AS mine`,
};

/** Between two looks whether the other one has ended, in milliseconds. */
const lookMs = 250;

export interface Exclusive {
  /** Names the lock, among all processes of the database. */
  readonly task: string;
  /** What is thrown when another process is at it; without it, it is waited for. */
  readonly refusal?: string;
}

/**
 * Runs `work` while no other process does the same `task` on this database; one that dies makes room. The lock belongs to a
 * transaction that stays open meanwhile, on a connection of its own, and not to a session: behind a pooler a session is
 * anybody's, and its lock would outlast us.
 * @throws Error saying `refusal`
 */
export async function exclusively<T>(
  dataSource: DataSource,
  { task, refusal }: Exclusive,
  work: () => Promise<T>,
): Promise<T> {
  for (;;) {
    const ends: T[] = [];
    const holding = async (tx: Transaction): Promise<boolean> => {
      await tx.manager.query('SET LOCAL idle_in_transaction_session_timeout TO 0');
      const [lock] = await tx.query<{ mine: boolean }>(tryLock, [task]);
      if (!lock?.mine) return false;
      ends.push(await work());
      return true;
    };
    const taken = await inTransaction(dataSource, holding, undefined, { failpoints: false }).catch((error: unknown) => {
      // The lock was lost behind the back of work that has come to its end all the same.
      if (ends.length === 0) throw error;
      return true;
    });
    if (taken) return ends[0] as T;
    if (refusal !== undefined) throw new Error(refusal);
    await sleep(lookMs);
  }
}

import type { DataSource } from 'typeorm';
import type { Statement, Transaction } from '../database/transaction.js';
import { ensureKey, raiseParkedTo, type SequencedMessage } from './inbox.js';

export interface ParkedMessage {
  readonly message: SequencedMessage;
  /** Attempts made so far; 0 when it only waits for its predecessor. */
  readonly attempts: number;
}

const remove: Statement = {
  name: 'inbox-unpark',
  text: `DELETE FROM inbox_parked WHERE consumer = $1 AND key = $2 AND sequence = $3 RETURNING 1`,
};
const recordFailure: Statement = {
  name: 'inbox-park-failure',
  text: `INSERT INTO inbox_parked (consumer, key, sequence, message, attempts, due_at, failure)
         VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6 * interval '1 millisecond', $7)
         ON CONFLICT (consumer, key, sequence) DO UPDATE
           SET attempts = excluded.attempts, due_at = excluded.due_at, failure = excluded.failure`,
};

// Ready: its predecessor is handled, its time has come, and no human has to look first.
const ready = `SELECT parked.message, parked.attempts
  FROM inbox_parked parked JOIN inbox_sequence seen USING (consumer, key)
 WHERE parked.consumer = $1 AND parked.failure IS NULL AND parked.due_at <= clock_timestamp()
   AND parked.sequence <= seen.sequence + 1`;

/** Called in the transaction that handles the message; true when it was parked. */
export async function unpark(tx: Transaction, consumer: string, message: SequencedMessage): Promise<boolean> {
  return (await tx.query(remove, [consumer, message.subject, message.sequence])).length === 1;
}

/**
 * Holds a failed message where its successors wait behind it: until `dueInMs` has passed, or, with a `failure`, until a
 * human clears the column. This is the dead letter of an ordered consumer.
 */
export async function parkFailed(
  tx: Transaction,
  consumer: string,
  message: SequencedMessage,
  attempts: number,
  next: { readonly dueInMs: number } | { readonly failure: string },
): Promise<void> {
  const dueInMs = 'dueInMs' in next ? next.dueInMs : 0;
  const failure = 'failure' in next ? next.failure : null;
  const values = [consumer, message.subject, message.sequence, JSON.stringify(message), attempts, dueInMs, failure];
  // The key's row must exist for the sweep to find the message; a key whose very first message failed has none yet.
  await tx.query(ensureKey, [consumer, message.subject]);
  await tx.query(recordFailure, values);
  await tx.query(raiseParkedTo, [consumer, message.subject, message.sequence]);
}

export function readyOfKey(dataSource: DataSource, consumer: string, key: string): Promise<ParkedMessage[]> {
  return dataSource.query(`${ready} AND parked.key = $2 ORDER BY parked.sequence LIMIT 1`, [consumer, key]);
}

/** At most one ready message of each key: its successors follow it without another sweep. */
export function readyOfAllKeys(dataSource: DataSource, consumer: string, limit: number): Promise<ParkedMessage[]> {
  return dataSource.query(`${ready} ORDER BY parked.due_at LIMIT $2`, [consumer, limit]);
}

export interface ParkedGap {
  readonly key: string;
  readonly sequence: string;
  readonly handled: string;
}

/** Heads of gaps that have been open longer than `olderThanMs`: their predecessor should have come by now. */
export function overdueGaps(dataSource: DataSource, consumer: string, olderThanMs: number): Promise<ParkedGap[]> {
  return dataSource.query(
    `SELECT parked.key, min(parked.sequence) AS sequence, seen.sequence AS handled
       FROM inbox_parked parked JOIN inbox_sequence seen USING (consumer, key)
      WHERE parked.consumer = $1 AND parked.attempts = 0
        AND parked.parked_at < clock_timestamp() - $2 * interval '1 millisecond'
      GROUP BY parked.key, seen.sequence
     HAVING min(parked.sequence) > seen.sequence + 1
      LIMIT 100`,
    [consumer, olderThanMs],
  );
}

import type { DataSource } from 'typeorm';
import { runStatement, type Statement, type Transaction } from '../database/transaction.js';
import type { SequencedMessage } from './sequence.js';

export interface ParkedMessage {
  readonly message: SequencedMessage;
  /** Attempts made so far; 0 when it only waits for its predecessor. */
  readonly attempts: number;
}

export interface Parking extends ParkedMessage {
  /** Earliest time of the next attempt, in milliseconds from now. */
  readonly dueInMs: number;
  /** Why a human has to look first: clearing the column lets it go on. This is the dead letter of an ordered consumer. */
  readonly failure: string | null;
  /** Its kind of error, where there is a failure. */
  readonly errorType: string | null;
  readonly stack: string | null;
}

// What waits for its predecessor never replaces what has been tried.
const insert: Statement = {
  name: 'inbox-park',
  text: `INSERT INTO inbox_parked AS parked (consumer, key, sequence, id, type, message, attempts, due_at, failure, error_type, stack, failed_at, first_failed_at)
         SELECT $1, key, sequence, id, type, message, attempts, clock_timestamp() + due * interval '1 millisecond', failure, error_type,
                stack, failed_at, failed_at
           FROM unnest($2::text[], $3::bigint[], $4::json[], $5::int[], $6::float8[], $7::text[], $8::text[], $9::text[], $10::text[], $11::text[])
             AS new (key, sequence, message, attempts, due, failure, error_type, stack, id, type),
                LATERAL (SELECT CASE WHEN failure IS NOT NULL THEN clock_timestamp() END) AS clock (failed_at)
         ON CONFLICT (consumer, key, sequence) DO UPDATE
           SET attempts = excluded.attempts, due_at = excluded.due_at, failure = excluded.failure,
               error_type = excluded.error_type, stack = excluded.stack, failed_at = coalesce(excluded.failed_at, parked.failed_at),
               first_failed_at = coalesce(parked.first_failed_at, excluded.failed_at)
         WHERE excluded.attempts > parked.attempts`,
};

/** Keeps messages where their successors wait behind them. The caller holds the locks of their keys. */
export async function park(tx: Transaction, consumer: string, parkings: readonly Parking[]): Promise<void> {
  if (parkings.length === 0) return;
  await tx.query(insert, [
    consumer,
    parkings.map(({ message }) => message.subject),
    parkings.map(({ message }) => message.sequence),
    parkings.map(({ message }) => JSON.stringify(message)),
    parkings.map(({ attempts }) => attempts),
    parkings.map(({ dueInMs }) => dueInMs),
    parkings.map(({ failure }) => failure),
    parkings.map(({ errorType }) => errorType),
    parkings.map(({ stack }) => stack),
    parkings.map(({ message }) => message.id),
    parkings.map(({ message }) => message.type),
  ]);
}

// Nothing in it comes from outside.
const hold: Statement = {
  name: 'inbox-parked-hold',
  text: `UPDATE inbox_parked
            SET failure = 'what became of it could not be recorded: see the log', error_type = 'Unrecordable',
                failed_at = clock_timestamp(), first_failed_at = coalesce(first_failed_at, clock_timestamp())
          WHERE consumer = $1 AND key = $2 AND sequence = $3`,
};

/** The last resort for what is parked already: it waits for a human. */
export async function holdParked(dataSource: DataSource, consumer: string, message: SequencedMessage): Promise<void> {
  await runStatement(dataSource, hold, [consumer, message.subject, message.sequence]);
}

// With them goes the report of a gap before them.
const remove: Statement = {
  name: 'inbox-unpark',
  text: `WITH moved AS MATERIALIZED (SELECT * FROM unnest($2::text[], $3::bigint[]) AS moved (key, sequence)),
         closed AS (
           DELETE FROM inbox_gap gap USING moved
            WHERE gap.consumer = $1 AND gap.key = moved.key AND gap.missing_to <= moved.sequence),
         gone AS (
           DELETE FROM inbox_parked parked USING moved
            WHERE parked.consumer = $1 AND parked.key = moved.key AND parked.sequence <= moved.sequence RETURNING 1)
         SELECT count(*)::int AS count FROM gone`,
};

/**
 * Removes what is parked of each key up to and with `handled`.
 * @returns how many that were
 */
export async function unpark(
  tx: Transaction,
  consumer: string,
  keys: readonly { readonly key: string; readonly handled: number }[],
): Promise<number> {
  if (keys.length === 0) return 0;
  const [gone] = await tx.query<{ count: number }>(remove, [
    consumer,
    keys.map(({ key }) => key),
    keys.map(({ handled }) => handled),
  ]);
  return gone?.count ?? 0;
}

// Ready: its predecessors are handled or ready, its time has come, and no human has to look first. The n-th ready one of a
// key is at most n ahead of what is handled, or there is a hole before it.
const selectReady: Statement = {
  name: 'inbox-parked-ready',
  text: `SELECT message, attempts
           FROM inbox_sequence seen CROSS JOIN LATERAL (
             SELECT message, attempts, sequence, row_number() OVER (ORDER BY sequence) AS place
               FROM inbox_parked parked
              WHERE parked.consumer = seen.consumer AND parked.key = seen.key AND failure IS NULL
                AND due_at <= clock_timestamp()
                AND parked.sequence > seen.sequence AND parked.sequence <= seen.sequence + $3) ready
          WHERE seen.consumer = $1 AND seen.key = ANY($2) AND ready.sequence = seen.sequence + place
          ORDER BY place LIMIT $3`,
};

/** At most `limit` messages of these keys that can be handled now, each after its predecessor. */
export const readyOfKeys = (
  dataSource: DataSource,
  consumer: string,
  keys: readonly string[],
  limit: number,
): Promise<ParkedMessage[]> => runStatement(dataSource, selectReady, [consumer, keys, limit]);

/**
 * The first that is parked of each key of the consumer `$1`: goes from key to key in the primary key, and reads nothing of what
 * waits behind them.
 */
export const headsOfKeys = `
  head AS (
    (SELECT key, sequence, due_at, failure FROM inbox_parked WHERE consumer = $1 ORDER BY key, sequence LIMIT 1)
    UNION ALL
    SELECT next.* FROM head CROSS JOIN LATERAL (
      SELECT key, sequence, due_at, failure FROM inbox_parked parked
       WHERE parked.consumer = $1 AND parked.key > head.key ORDER BY parked.key, parked.sequence LIMIT 1) next)`;

// A join lets the planner read inbox_sequence, which has a row for each key that was ever seen; LIMIT 1 leaves it only the look
// at one row.
const selectKeys: Statement = {
  name: 'inbox-parked-keys',
  text: `WITH RECURSIVE ${headsOfKeys}
         SELECT head.key FROM head
          CROSS JOIN LATERAL (SELECT sequence FROM inbox_sequence WHERE consumer = $1 AND key = head.key LIMIT 1) seen
          WHERE head.failure IS NULL AND head.due_at <= clock_timestamp() AND head.sequence = seen.sequence + 1
          ORDER BY head.due_at LIMIT $2`,
};

/** Keys whose next message is parked and may be handled now, the longest waiting first. */
export async function readyKeys(dataSource: DataSource, consumer: string, limit: number): Promise<string[]> {
  const rows = await runStatement<{ key: string }>(dataSource, selectKeys, [consumer, limit]);
  return rows.map(({ key }) => key);
}

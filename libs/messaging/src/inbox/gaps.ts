import type { DataSource } from 'typeorm';
import { inTransaction, runStatement, type Statement, type Transaction } from '../database/transaction.js';
import { TerminalError } from '../errors.js';
import { headsOfKeys } from './parked.js';
import { advanceKeys, setKeys } from './sequence.js';

/** Messages of a key that have not come within the deadline; those behind them wait. */
export interface Gap {
  readonly consumer: string;
  readonly key: string;
  /** The first and the last sequence that is missing. */
  readonly missingFrom: number;
  readonly missingTo: number;
  /** When the first message came that has to wait for them. */
  readonly since: Date;
}

/** Messages that are no longer waited for. */
export interface Skipped {
  readonly key: string;
  /** The first and the last sequence. */
  readonly from: number;
  readonly to: number;
}

export interface SkipGaps {
  /** The consumer's name: its group, and its name in the inbox. */
  readonly consumer: string;
  /** Gaps whose successors wait since before then. Default: all that are past their deadline. */
  readonly before?: Date;
  /** Kept in `inbox_skipped`. */
  readonly reason: string;
}

export interface SkipGap {
  /** The consumer's name: its group, and its name in the inbox. */
  readonly consumer: string;
  readonly key: string;
  /** The last sequence that is no longer waited for. */
  readonly upTo: number;
  /** Kept in `inbox_skipped`: why nobody will ever see these messages. */
  readonly reason: string;
}

/** Of the key of `row`. A subquery, because a join lets the planner read the rows of all keys that were ever seen. */
const handledOf = (row: string): string =>
  `(SELECT seen.sequence FROM inbox_sequence seen WHERE seen.consumer = ${row}.consumer AND seen.key = ${row}.key)`;

// From key to key in the primary key of inbox_parked, as in inbox-parked-keys. What waits behind the head of a key is read only
// where a gap is new.
const record: Statement = {
  name: 'inbox-gap-record',
  text: `WITH RECURSIVE ${headsOfKeys},
         unknown AS MATERIALIZED (
           SELECT head.key, seen.sequence + 1 AS missing_from, head.sequence - 1 AS missing_to
             FROM head CROSS JOIN LATERAL (SELECT sequence FROM inbox_sequence WHERE consumer = $1 AND key = head.key LIMIT 1) seen
            WHERE head.sequence > seen.sequence + 1
              AND (SELECT (known.missing_from, known.missing_to) = (seen.sequence + 1, head.sequence - 1)
                     FROM inbox_gap known WHERE known.consumer = $1 AND known.key = head.key) IS NOT TRUE),
         late AS (
           SELECT unknown.*, since FROM unknown CROSS JOIN LATERAL (
             SELECT min(parked_at) AS since FROM inbox_parked WHERE consumer = $1 AND key = unknown.key) waiting
            WHERE since < clock_timestamp() - $2 * interval '1 millisecond')
         INSERT INTO inbox_gap AS gap (consumer, key, missing_from, missing_to, since)
         SELECT $1, late.* FROM late ORDER BY key
         ON CONFLICT (consumer, key) DO UPDATE SET missing_from = excluded.missing_from, missing_to = excluded.missing_to
          WHERE (gap.missing_from, gap.missing_to) <> (excluded.missing_from, excluded.missing_to)`,
};

const columns = `consumer, key, missing_from::float8 AS "missingFrom", missing_to::float8 AS "missingTo", since`;

// The processes of a service share the row: each report is made by one of them. A batch may have closed a gap before it was
// recorded: instead of being reported it is taken out.
const takeReports: Statement = {
  name: 'inbox-gap-report',
  text: `WITH due AS MATERIALIZED (
           SELECT gap.key, ${handledOf('gap')} >= gap.missing_to AS closed FROM inbox_gap gap
            WHERE gap.consumer = $1 AND report_at <= (SELECT clock_timestamp()) ORDER BY report_at LIMIT $3),
         gone AS (
           DELETE FROM inbox_gap gap WHERE gap.consumer = $1 AND gap.key = ANY (ARRAY(SELECT key FROM due WHERE closed))
              AND ${handledOf('gap')} >= gap.missing_to)
         UPDATE inbox_gap SET reports = reports + 1, report_at = clock_timestamp()
             + least($2 * 2 ^ least(reports, 30), 86400000) * interval '1 millisecond'
          WHERE consumer = $1 AND key = ANY (ARRAY(SELECT key FROM due WHERE NOT closed)) AND report_at <= clock_timestamp()
         RETURNING ${columns}`,
};

/**
 * Records the gaps that have been open longer than `deadlineMs`.
 * @returns those to report now, at most `limit`: each at once, then after the deadline, twice as long, … at most a day
 */
export async function escalateGaps(
  dataSource: DataSource,
  consumer: string,
  deadlineMs: number,
  limit: number,
): Promise<Gap[]> {
  await runStatement(dataSource, record, [consumer, deadlineMs]);
  return runStatement<Gap>(dataSource, takeReports, [consumer, deadlineMs, limit]);
}

const stillOpen = `coalesce(${handledOf('gap')} < missing_to, true)`;

const selectOpen: Statement = {
  name: 'inbox-gap-open',
  text: `SELECT ${columns} FROM inbox_gap gap WHERE ${stillOpen} ORDER BY since, consumer, key LIMIT $1`,
};
const selectOpenOf: Statement = {
  name: 'inbox-gap-open-of-consumer',
  text: `SELECT ${columns} FROM inbox_gap gap WHERE consumer = $2 AND ${stillOpen} ORDER BY since, key LIMIT $1`,
};

/** Gaps past their deadline, the longest open first; of all consumers unless one is named. */
export const openGaps = (
  dataSource: DataSource,
  { consumer, limit = 100 }: { readonly consumer?: string | null; readonly limit?: number } = {},
): Promise<Gap[]> =>
  typeof consumer === 'string'
    ? runStatement<Gap>(dataSource, selectOpenOf, [limit, consumer])
    : runStatement<Gap>(dataSource, selectOpen, [limit]);

const countGaps: Statement = {
  name: 'inbox-gap-count',
  text: `SELECT count(*)::int AS count FROM inbox_gap WHERE consumer = $1`,
};

export async function countOpenGaps(dataSource: DataSource, consumer: string): Promise<number> {
  const [row] = await runStatement<{ count: number }>(dataSource, countGaps, [consumer]);
  return row?.count ?? 0;
}

const selectHead: Statement = {
  name: 'inbox-gap-head',
  text: `SELECT seen.sequence::float8 AS handled, seen.parked_to::float8 AS "parkedTo", min(parked.sequence)::float8 AS next
           FROM inbox_sequence seen LEFT JOIN inbox_parked parked USING (consumer, key)
          WHERE consumer = $1 AND key = $2 AND seen.sequence >= 0
          GROUP BY seen.sequence, seen.parked_to`,
};
const recordSkip: Statement = {
  name: 'inbox-skip',
  text: `WITH gone AS (DELETE FROM inbox_gap WHERE consumer = $1 AND key = $2 AND missing_to <= $4)
         INSERT INTO inbox_skipped (consumer, key, missing_from, missing_to, reason) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (consumer, key, missing_from)
         DO UPDATE SET missing_to = excluded.missing_to, reason = excluded.reason, skipped_at = now()`,
};

/**
 * Gives the missing messages of a key up, and lets those behind them go on; recorded in `inbox_skipped`. Should a skipped
 * message come after all it counts as a duplicate, without effect.
 * @throws TerminalError when the key has no gap that reaches so far; nothing is skipped then
 */
export function skipGap(dataSource: DataSource, { consumer, key, upTo, reason }: SkipGap): Promise<void> {
  return inTransaction(dataSource, async (tx) => {
    // Advances nothing, but takes the locks that a batch takes.
    await advanceKeys(tx, consumer, [{ key, first: 0, last: upTo }]);
    const [head] = await tx.query<{ handled: number; parkedTo: number; next: number | null }>(selectHead, [
      consumer,
      key,
    ]);
    if (!head || head.next === null || head.next <= head.handled + 1) {
      throw new TerminalError(`${consumer} has no gap at "${key}"; see openGaps() for those that it has`);
    }
    const { handled, next, parkedTo } = head;
    if (!Number.isInteger(upTo) || upTo <= handled || upTo >= next) {
      const range = `from ${handled + 1} to ${next - 1}`;
      throw new TerminalError(`${consumer} misses ${range} of "${key}": skip up to one of those, not up to ${upTo}`);
    }
    await setKeys(tx, consumer, [{ key, handled: upTo, parkedTo }]);
    await tx.query(recordSkip, [consumer, key, handled + 1, upTo, reason]);
  });
}

const recordMany: Statement = {
  name: 'inbox-skip-record',
  text: `INSERT INTO inbox_skipped (consumer, key, missing_from, missing_to, reason)
         SELECT $1, key, missing_from, missing_to, $5
           FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS skipped (key, missing_from, missing_to)
         ON CONFLICT (consumer, key, missing_from)
         DO UPDATE SET missing_to = excluded.missing_to, reason = excluded.reason, skipped_at = now()`,
};

/** Under the locks of the keys. */
export async function recordSkipped(
  tx: Transaction,
  consumer: string,
  skipped: readonly Skipped[],
  reason: string,
): Promise<void> {
  if (skipped.length === 0) return;
  const columns = [skipped.map(({ key }) => key), skipped.map(({ from }) => from), skipped.map(({ to }) => to)];
  await tx.query(recordMany, [consumer, ...columns, reason]);
}

const selectKeysWithGaps: Statement = {
  name: 'inbox-gap-keys',
  text: `SELECT key FROM inbox_gap WHERE consumer = $1 AND since < coalesce($2::timestamptz, now())
          ORDER BY since, key LIMIT $3`,
};
// As the keys are now: of what was missing some may have come.
const skipMany: Statement = {
  name: 'inbox-skip-many',
  text: `WITH heads AS (
           SELECT seen.key, seen.sequence + 1 AS missing_from, next.sequence - 1 AS missing_to
             FROM inbox_sequence seen CROSS JOIN LATERAL (
               SELECT min(parked.sequence) AS sequence FROM inbox_parked parked
                WHERE parked.consumer = seen.consumer AND parked.key = seen.key) AS next
            WHERE seen.consumer = $1 AND seen.key = ANY($2) AND seen.sequence >= 0 AND next.sequence > seen.sequence + 1),
         moved AS (
           UPDATE inbox_sequence seen SET sequence = heads.missing_to FROM heads
            WHERE seen.consumer = $1 AND seen.key = heads.key),
         gone AS (DELETE FROM inbox_gap WHERE consumer = $1 AND key = ANY($2))
         INSERT INTO inbox_skipped (consumer, key, missing_from, missing_to, reason)
         SELECT $1, key, missing_from, missing_to, $3 FROM heads
         ON CONFLICT (consumer, key, missing_from)
         DO UPDATE SET missing_to = excluded.missing_to, reason = excluded.reason, skipped_at = now()
         RETURNING key`,
};

/** Keys of one transaction: more would hold up the consumer for too long. */
const keysAtOnce = 5_000;

/**
 * Gives up what is missing of all keys of a consumer, as {@link skipGap} does of one.
 * @returns of how many keys
 */
export async function skipGaps(
  dataSource: DataSource,
  { consumer, before, reason }: SkipGaps,
  atOnce = keysAtOnce,
): Promise<number> {
  for (let total = 0; ;) {
    const found = await runStatement<{ key: string }>(dataSource, selectKeysWithGaps, [
      consumer,
      before ?? null,
      atOnce,
    ]);
    if (found.length === 0) return total;
    const keys = found.map(({ key }) => key);
    const skipped = await inTransaction(dataSource, async (tx) => {
      // Advances nothing, but takes the locks that a batch takes.
      const locks = keys.map((key) => ({ key, first: 0, last: 1 }));
      await advanceKeys(tx, consumer, locks);
      return tx.query(skipMany, [consumer, keys, reason]);
    });
    total += skipped.length;
  }
}

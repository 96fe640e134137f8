import type { Statement, Transaction } from '../database/transaction.js';
import type { Message } from '../message.js';
import { conditionsOf, type DeadLetter, type DeadLetterFilter } from './dead-letter-view.js';

/** Until the end of the transaction no other operator changes dead letters. */
export const lockOperators: Statement = {
  name: 'dead-letters-lock',
  text: `SELECT pg_advisory_xact_lock(hashtextextended('dead-letters', 1))`,
};

export interface Candidate extends Pick<DeadLetter, 'id' | 'consumer' | 'kind' | 'key' | 'attempts' | 'status'> {
  /** Decimal. */
  readonly sequence: string | null;
  /** Of sequenced events only. */
  readonly message: Message | null;
}

interface Choice {
  /** What failed later is left alone. */
  readonly before: Date;
  readonly onlyRedrivable: boolean;
  readonly limit: number;
}

/** The longest waiting first. */
export async function selectCandidates(
  tx: Transaction,
  filter: DeadLetterFilter,
  { before, onlyRedrivable, limit }: Choice,
): Promise<Candidate[]> {
  const { where, values } = conditionsOf(filter);
  const n = values.length;
  const query = `SELECT id, consumer, kind, status, key, attempts, sequence, CASE kind WHEN 'sequenced-event' THEN message END AS message
    FROM dead_letters ${where} AND opened_at <= $${n + 1} AND (redrivable OR NOT $${n + 2}::boolean)
   ORDER BY failed_at, consumer, id LIMIT $${n + 3}`;
  return tx.manager.query<Candidate[]>(query, [...values, before, onlyRedrivable, limit]);
}

export interface Stored {
  readonly id: string;
  readonly consumer: string;
  readonly kind: 'command' | 'event' | 'outgoing';
  readonly redrives: number;
  readonly message: Message | null;
  readonly raw: Buffer | null;
  readonly headers: unknown;
}

/** The 20 latest failures, this one included. */
const withHistory = (failedAt: string, errorType: string, reason: string): string => `
  CASE WHEN jsonb_array_length(history) >= 20 THEN history - 0 ELSE history END || jsonb_build_object(
    'failedAt', ${utc(failedAt)}, 'errorType', ${errorType}, 'reason', left(${reason}, 500), 'attempts', attempts,
    'redrivenAt', ${utc('clock_timestamp()')})`;

function utc(instant: string): string {
  return `to_char(${instant} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;
}

// In the order in which they are taken in from the broker, so that the two never wait for each other in a circle.
const lockStored = `
  WITH locked AS MATERIALIZED (
    SELECT consumer, id FROM dead_letter JOIN unnest($1::text[], $2::text[]) AS wanted (consumer, id) USING (consumer, id)
     WHERE status = 'open' ORDER BY consumer, id FOR UPDATE OF dead_letter)`;

const redriveRows: Statement = {
  name: 'dead-letters-redrive',
  text: `${lockStored}
         UPDATE dead_letter SET status = 'scheduled', due_at = clock_timestamp(), redrives = redrives + 1,
                history = ${withHistory('failed_at', 'error_type', 'reason')}, attempts = 0
           FROM locked WHERE dead_letter.consumer = locked.consumer AND dead_letter.id = locked.id
         RETURNING dead_letter.id, dead_letter.consumer, kind, redrives, message, raw, headers`,
};

const deleteRows: Statement = {
  name: 'dead-letters-delete',
  text: `${lockStored}
         DELETE FROM dead_letter USING locked WHERE dead_letter.consumer = locked.consumer AND dead_letter.id = locked.id
         RETURNING dead_letter.id, dead_letter.consumer, kind, redrives, message, raw, headers`,
};

/** Those that were open until now. */
export const redriveStored = (tx: Transaction, candidates: readonly Candidate[]): Promise<Stored[]> =>
  tx.query<Stored & Record<string, unknown>>(redriveRows, columnsOf(candidates));

export const removeStored = (tx: Transaction, candidates: readonly Candidate[]): Promise<Stored[]> =>
  tx.query<Stored & Record<string, unknown>>(deleteRows, columnsOf(candidates));

function columnsOf(candidates: readonly Candidate[]): string[][] {
  const stored = candidates.filter(({ kind }) => kind !== 'sequenced-event');
  return [stored.map(({ consumer }) => consumer), stored.map(({ id }) => id)];
}

const redriveEvents: Statement = {
  name: 'dead-letters-redrive-parked',
  text: `UPDATE inbox_parked parked SET failure = NULL, error_type = NULL, due_at = clock_timestamp(),
                redrives = redrives + 1, attempts = 0,
                history = ${withHistory('coalesce(failed_at, parked_at)', "coalesce(error_type, 'Error')", 'failure')}
           FROM unnest($1::text[], $2::text[], $3::bigint[]) AS wanted (consumer, key, sequence)
          WHERE parked.consumer = wanted.consumer AND parked.key = wanted.key AND parked.sequence = wanted.sequence
            AND failure IS NOT NULL
         RETURNING parked.key`,
};

/** Their consumers go on with them, in order. @returns how many */
export async function redriveParked(tx: Transaction, candidates: readonly Candidate[]): Promise<number> {
  const sequenced = candidates.filter(({ kind }) => kind === 'sequenced-event');
  if (sequenced.length === 0) return 0;
  const rows = await tx.query(redriveEvents, [
    sequenced.map(({ consumer }) => consumer),
    sequenced.map(({ key }) => key),
    sequenced.map(({ sequence }) => sequence),
  ]);
  return rows.length;
}

import type { DataSource } from 'typeorm';
import { runStatement, type Statement } from '../database/transaction.js';
import { errorText } from '../logger.js';
import { longestReason } from '../transport/dead-letter.js';
import type { HeldKey, OutboxRow } from './outbox-row.js';

/** A row that its broker refuses again and again. */
export interface Refusal {
  readonly row: OutboxRow;
  readonly error: unknown;
  readonly attempts: number;
  /** Of its shard, when it was last tried. */
  readonly epoch: string;
}

// The lock keeps a shard from changing hands before this is committed: its next holder must see which keys wait. Shards are
// locked in one order everywhere.
const bury: Statement = {
  name: 'outbox-refused',
  text: `WITH locked AS MATERIALIZED (
           SELECT shard, epoch FROM outbox_lease WHERE shard = ANY($1) ORDER BY shard FOR SHARE),
              mine AS MATERIALIZED (
           SELECT refused.* FROM unnest($1::smallint[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::text[], $7::int[])
                                   AS refused (shard, address, position, epoch, error_type, reason, attempts)
             JOIN locked ON locked.shard = refused.shard AND locked.epoch = refused.epoch),
              gone AS (
           DELETE FROM outbox USING mine
            WHERE outbox.shard = mine.shard AND outbox.address = mine.address AND outbox.position = mine.position
           RETURNING outbox.*, error_type, reason, attempts)
         INSERT INTO dead_letter AS known (consumer, id, kind, type, key, sequence, error_type, reason, origin, attempts,
                first_failed_at, failed_at, message, headers, redrivable, redrives)
         SELECT DISTINCT ON (message ->> 'id') 'outbox', message ->> 'id', 'outgoing', message ->> 'type', ordering_key,
                (message ->> 'sequence')::bigint, error_type, reason,
                CASE WHEN coalesce(exchange, '') = '' THEN address ELSE exchange || '/' || address END, attempts,
                clock_timestamp(), clock_timestamp(), message,
                json_build_object('channel', channel, 'exchange', exchange, 'address', address, 'orderingKey', ordering_key,
                                  'position', position::text), true, redrives
           FROM gone ORDER BY message ->> 'id', position
         ON CONFLICT (consumer, id) DO UPDATE
           SET status = 'open', due_at = NULL, error_type = excluded.error_type, reason = excluded.reason,
               attempts = excluded.attempts, failed_at = excluded.failed_at, opened_at = clock_timestamp(),
               headers = excluded.headers, message = excluded.message`,
};

/** Moves them to the dead letters, as long as their shards have not changed hands. */
export async function buryRefused(dataSource: DataSource, refusals: readonly Refusal[]): Promise<void> {
  await runStatement(dataSource, bury, [
    refusals.map(({ row }) => row.shard),
    refusals.map(({ row }) => row.address),
    refusals.map(({ row }) => row.position),
    refusals.map(({ epoch }) => epoch),
    refusals.map(({ error }) => (error instanceof Error ? error.name : 'Error')),
    refusals.map(({ error }) => errorText(error).replaceAll('\0', '\u{FFFD}').slice(0, longestReason)),
    refusals.map(({ attempts }) => attempts),
  ]);
}

const waiting: Statement = {
  name: 'outbox-held',
  text: `SELECT headers ->> 'address' AS address, key FROM dead_letter
          WHERE kind = 'outgoing' AND headers ->> 'channel' = 'event' AND status = 'open'`,
};

/** Keys whose events wait behind one that Kafka has refused, until an operator redrives or discards it. */
export const heldKeys = (dataSource: DataSource): Promise<(HeldKey & Record<string, unknown>)[]> =>
  runStatement(dataSource, waiting);

const forget: Statement = {
  name: 'outbox-redriven',
  text: `DELETE FROM dead_letter WHERE consumer = 'outbox' AND id = ANY($1) AND status = 'scheduled'`,
};

/** Their brokers have them: they are no dead letters any more. */
export async function forgetRedriven(dataSource: DataSource, ids: readonly string[]): Promise<void> {
  await runStatement(dataSource, forget, [ids]);
}

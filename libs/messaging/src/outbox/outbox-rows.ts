import type { DataSource } from 'typeorm';
import { runStatement, type Statement } from '../database/transaction.js';
import type { OutboxRow } from './publish-rows.js';

// Each shard is read from its own place in the index: the backlog of one costs the others nothing.
const select: Statement = {
  name: 'outbox-take',
  text: `SELECT head.* FROM unnest($1::smallint[], $2::bigint[]) AS place (shard, floor) CROSS JOIN LATERAL (
           SELECT position, shard, channel, address, ordering_key, message, written_at FROM outbox
            WHERE outbox.shard = place.shard AND position > place.floor
              AND position <> ALL($3::bigint[]) AND ordering_key <> ALL($4::text[])
            ORDER BY outbox.shard, position LIMIT $5) head
          ORDER BY position LIMIT $6`,
};

export interface Look {
  /** Shards, and the position behind which each is read. */
  readonly floors: ReadonlyMap<number, number>;
  /** Positions in hand already. */
  readonly except: readonly string[];
  readonly exceptKeys: readonly string[];
  readonly limitOfShard: number;
  readonly limit: number;
}

/** Rows in order of their positions. */
export const selectRows = (dataSource: DataSource, look: Look): Promise<OutboxRow[]> =>
  runStatement<OutboxRow & Record<string, unknown>>(dataSource, select, [
    [...look.floors.keys()],
    [...look.floors.values()],
    look.except,
    look.exceptKeys,
    look.limitOfShard,
    look.limit,
  ]);

// The epoch is the fence: a holder that was frozen and succeeded deletes nothing that its successor has in hand.
const remove: Statement = {
  name: 'outbox-delete',
  text: `DELETE FROM outbox USING unnest($1::smallint[], $2::bigint[], $3::bigint[]) AS done (shard, position, epoch)
          WHERE outbox.shard = done.shard AND outbox.position = done.position
            AND EXISTS (SELECT FROM outbox_lease lease WHERE lease.shard = done.shard AND lease.epoch = done.epoch)`,
};

/** Deletes rows, but only those whose shard is still at the epoch under which they were published. */
export async function deleteRows(
  dataSource: DataSource,
  rows: readonly { readonly row: OutboxRow; readonly epoch: string }[],
): Promise<void> {
  if (rows.length === 0) return;
  await runStatement(dataSource, remove, [
    rows.map(({ row }) => row.shard),
    rows.map(({ row }) => row.position),
    rows.map(({ epoch }) => epoch),
  ]);
}

// A number of its own, because a snapshot's xmax only says which transactions have ended: one that began later may be writing.
const horizon: Statement = {
  name: 'outbox-horizon',
  text: `SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS oldest, pg_current_xact_id()::text AS next`,
};

/** Every transaction before `oldest` has ended; every one that has begun to write has a number below `next`. */
export async function readHorizon(dataSource: DataSource): Promise<{ oldest: bigint; next: bigint }> {
  const [row] = await runStatement<{ oldest: string; next: string }>(dataSource, horizon);
  return { oldest: BigInt(row?.oldest ?? 0), next: BigInt(row?.next ?? 0) };
}

const move: Statement = {
  name: 'outbox-discard',
  text: `WITH gone AS (DELETE FROM outbox WHERE message->>'id' = $1 RETURNING message)
         INSERT INTO inbox_discarded (consumer, message_id, type, reason, message)
         SELECT 'outbox', $1, message->>'type', $2, message FROM gone ON CONFLICT DO NOTHING RETURNING 1`,
};

/**
 * For a message that no broker will ever take: moves it from the outbox to `inbox_discarded`, as consumer `outbox`, and so lets
 * the messages behind it go. Consumers in sequence will miss an event that is discarded, and hold its key.
 * @returns false when the outbox has no such message (any more)
 */
export async function discardOutgoing(dataSource: DataSource, messageId: string, reason: string): Promise<boolean> {
  return (await runStatement(dataSource, move, [messageId, reason])).length > 0;
}

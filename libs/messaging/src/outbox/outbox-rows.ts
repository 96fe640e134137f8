import type { DataSource } from 'typeorm';
import { Batches } from '../batches.js';
import { runStatement, type Statement } from '../database/transaction.js';
import { placeOfKey, type HeldKey, type OutboxRow } from './outbox-row.js';
import { buryRefused, forgetRedriven, type Refusal } from './refused-rows.js';

/** Part of the outbox: the rows of one address in one shard, in order of their positions. */
export interface Place {
  readonly shard: number;
  readonly address: string;
}

export interface Look {
  readonly address: string;
  /** Shards, and the position behind which each is read. */
  readonly floors: ReadonlyMap<number, number>;
  /** Positions in hand already. */
  readonly except: readonly string[];
  readonly exceptKeys: readonly string[];
  readonly mostOfShard: number;
  readonly most: number;
}

const read: Statement = {
  name: 'outbox-read',
  text: `SELECT ahead.* FROM unnest($1::int[], $2::int[], $3::int[]) AS look (number, most, most_of_shard)
          CROSS JOIN LATERAL (
            SELECT place.number, head.* FROM unnest($4::int[], $5::text[], $6::smallint[], $7::bigint[])
                                          AS place (number, address, shard, floor)
             CROSS JOIN LATERAL (
               SELECT position, shard, channel, exchange, address, ordering_key, message, redrives, written_at FROM outbox
                WHERE outbox.shard = place.shard AND outbox.address = place.address AND position > place.floor
                  AND position <> ALL($8::bigint[]) AND address || ' ' || ordering_key <> ALL($9::text[])
                ORDER BY outbox.shard, outbox.address, position LIMIT look.most_of_shard) head
             WHERE place.number = look.number
             ORDER BY position LIMIT look.most) ahead
          ORDER BY position`,
};

// The next place is looked up in the index behind the one before: rows in between are not read, however many there are.
const present: Statement = {
  name: 'outbox-places',
  text: `WITH RECURSIVE place AS (
           SELECT head.* FROM unnest($1::smallint[]) AS held (shard) CROSS JOIN LATERAL (
             SELECT shard, outbox.address, channel, position FROM outbox
              WHERE outbox.shard = held.shard AND outbox.address > $2 AND outbox.address || ' ' || ordering_key <> ALL($3::text[])
              ORDER BY shard, outbox.address, position LIMIT 1) head
           UNION ALL
           SELECT behind.* FROM place CROSS JOIN LATERAL (
             SELECT shard, outbox.address, channel, position FROM outbox
              WHERE outbox.shard = place.shard AND outbox.address > place.address AND outbox.address || ' ' || ordering_key <> ALL($3::text[])
              ORDER BY shard, outbox.address, position LIMIT 1) behind)
         SELECT * FROM place LIMIT $4`,
};

// The epoch is the fence: a holder that was frozen and succeeded deletes nothing that its successor has in hand. A delete that
// a crash of the server undoes is only a second copy, so it need not wait for the disk.
const remove: Statement = {
  name: 'outbox-delete',
  text: `WITH at_ease AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true) AS done)
         DELETE FROM outbox USING at_ease, unnest($1::smallint[], $2::text[], $3::bigint[], $4::bigint[])
                                    AS done (shard, address, position, epoch)
          WHERE outbox.shard = done.shard AND outbox.address = done.address AND outbox.position = done.position
            AND at_ease.done IS NOT NULL
            AND EXISTS (SELECT FROM outbox_lease lease WHERE lease.shard = done.shard AND lease.epoch = done.epoch)`,
};

// A number of its own, because a snapshot's xmax only says which transactions have ended: one that began later may be writing.
const horizon: Statement = {
  name: 'outbox-horizon',
  text: `SELECT pg_snapshot_xmin(pg_current_snapshot())::text AS oldest, pg_current_xact_id()::text AS next`,
};

/** A row with the epoch of its shard under which it was published. */
export interface SettledRow {
  readonly row: OutboxRow;
  readonly epoch: string;
}

/** What the relay reads and deletes. Calls that come while a statement is under way share the next one. */
export class OutboxRows {
  private readonly reads = new Batches<Look, OutboxRow[]>((looks) => this.readAll(looks));
  private readonly deletes = new Batches<readonly SettledRow[], void>((settled) => this.deleteAll(settled));

  private readonly burials = new Batches<readonly Refusal[], void>((refusals) => this.buryAll(refusals));

  constructor(private readonly dataSource: DataSource) {}

  /** In order of their positions. */
  read(look: Look): Promise<OutboxRow[]> {
    return this.reads.call(look);
  }

  /** Deletes rows, but only those whose shard is still at the epoch under which they were published. */
  delete(rows: readonly SettledRow[]): Promise<void> {
    return this.deletes.call(rows);
  }

  /** Moves what its broker refuses to the dead letters, as long as its shard has not changed hands. */
  bury(refusals: readonly Refusal[]): Promise<void> {
    return this.burials.call(refusals);
  }

  /** Places that hold rows, and the first position of each; at most `most`, and only addresses behind `after`. */
  places(
    shards: readonly number[],
    { after, held, most }: { after: string; held: readonly HeldKey[]; most: number },
  ): Promise<(Place & Pick<OutboxRow, 'channel' | 'position'>)[]> {
    return runStatement(this.dataSource, present, [
      shards,
      after,
      held.map(({ address, key }) => placeOfKey(address, key)),
      most,
    ]);
  }

  /** Every transaction before `oldest` has ended; every one that has begun to write has a number below `next`. */
  async horizon(): Promise<{ oldest: bigint; next: bigint }> {
    const [row] = await runStatement<{ oldest: string; next: string }>(this.dataSource, horizon);
    return { oldest: BigInt(row?.oldest ?? 0), next: BigInt(row?.next ?? 0) };
  }

  private async readAll(looks: readonly Look[]): Promise<OutboxRow[][]> {
    const places = looks.flatMap(({ address, floors }, number) =>
      [...floors].map(([shard, floor]) => ({ number, address, shard, floor })),
    );
    const rows = await runStatement<OutboxRow & { number: number }>(this.dataSource, read, [
      looks.map((_, number) => number),
      looks.map(({ most }) => most),
      looks.map(({ mostOfShard }) => mostOfShard),
      places.map(({ number }) => number),
      places.map(({ address }) => address),
      places.map(({ shard }) => shard),
      places.map(({ floor }) => floor),
      looks.flatMap(({ except }) => except),
      looks.flatMap(({ address, exceptKeys }) => exceptKeys.map((key) => placeOfKey(address, key))),
    ]);
    const byLook = Map.groupBy(rows, ({ number }) => String(number));
    return looks.map((_, number) => byLook.get(String(number)) ?? []);
  }

  private async deleteAll(settled: readonly (readonly SettledRow[])[]): Promise<void[]> {
    const rows = settled.flat();
    const redriven = rows.filter(({ row }) => row.redrives > 0).map(({ row }) => row.message.id);
    if (redriven.length > 0) await forgetRedriven(this.dataSource, redriven);
    await runStatement(this.dataSource, remove, [
      rows.map(({ row }) => row.shard),
      rows.map(({ row }) => row.address),
      rows.map(({ row }) => row.position),
      rows.map(({ epoch }) => epoch),
    ]);
    return settled.map(() => undefined);
  }

  private async buryAll(refusals: readonly (readonly Refusal[])[]): Promise<void[]> {
    await buryRefused(this.dataSource, refusals.flat());
    return refusals.map(() => undefined);
  }
}

import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';
import { runStatement, type Statement } from '../database/transaction.js';

/** Shards of an outbox, as its table computes them: the even ones hold events, the odd ones commands. */
export const outboxShards = 16;

const beat: Statement = {
  name: 'outbox-relay-beat',
  text: `WITH gone AS (DELETE FROM outbox_relay WHERE alive_until < clock_timestamp() AND holder <> $1),
              me AS (INSERT INTO outbox_relay VALUES ($1, clock_timestamp() + $2 * interval '1 millisecond')
                     ON CONFLICT (holder) DO UPDATE SET alive_until = excluded.alive_until)
         SELECT 1 + count(*)::int AS members FROM outbox_relay WHERE holder <> $1 AND alive_until > clock_timestamp()`,
};

// Its own first, so that shards change hands only when the share of an instance changes.
const take: Statement = {
  name: 'outbox-lease-take',
  text: `UPDATE outbox_lease lease
            SET holder = $1, epoch = epoch + (lease.holder IS DISTINCT FROM $1)::int,
                expires_at = clock_timestamp() + $2 * interval '1 millisecond'
           FROM (SELECT shard FROM outbox_lease WHERE holder = $1 OR expires_at < clock_timestamp()
                  ORDER BY (holder IS NOT DISTINCT FROM $1) DESC, shard LIMIT $3 FOR UPDATE SKIP LOCKED) mine
          WHERE lease.shard = mine.shard
         RETURNING lease.shard, lease.epoch`,
};

const giveUp: Statement = {
  name: 'outbox-lease-give-up',
  text: `UPDATE outbox_lease SET expires_at = '-infinity' WHERE holder = $1 AND shard = ANY($2)`,
};

const leave: Statement = { name: 'outbox-relay-leave', text: `DELETE FROM outbox_relay WHERE holder = $1` };

/**
 * The shards that this instance relays. Only the holder of a shard relays it, so that the order of a key is kept over all
 * instances of a service; each has an even share of them, and what a dead one held is taken over when its lease ends.
 */
export class OutboxLease {
  readonly holder = randomUUID();
  /** Fencing token of each shard held, as a decimal string. */
  private epochs: ReadonlyMap<number, string> = new Map();
  private validUntil = 0;
  private askAgainAt = 0;
  /** Instances seen alive at the last renewal, this one included. */
  members = 1;

  constructor(
    private readonly dataSource: DataSource,
    private readonly durationMs: number,
  ) {}

  /** Milliseconds until {@link renew} should be called, when nothing is in hand: it may give shards to others. */
  get dueInMs(): number {
    return Math.max(0, this.askAgainAt - performance.now());
  }

  /** Takes, renews and gives up leases; returns the shards that are newly ours. */
  async renew(): Promise<number[]> {
    const asked = performance.now();
    const [beaten] = await runStatement<{ members: number }>(this.dataSource, beat, [this.holder, this.durationMs]);
    this.members = beaten?.members ?? 1;
    const share = Math.ceil(outboxShards / this.members);
    const rows = await runStatement<{ shard: number; epoch: string }>(this.dataSource, take, [
      this.holder,
      this.durationMs,
      share,
    ]);
    const before = this.epochs;
    this.epochs = new Map(rows.map(({ shard, epoch }) => [shard, epoch]));
    // Counted from before the question, so that our idea of the lease ends before the database's.
    this.validUntil = asked + this.durationMs;
    // A share that is not complete yet is waiting for somebody to give up or to die: a look now and then is cheap.
    this.askAgainAt = asked + this.durationMs / (rows.length < share ? 8 : 2);
    const surplus = [...before.keys()].filter((shard) => !this.epochs.has(shard));
    if (surplus.length > 0) await runStatement(this.dataSource, giveUp, [this.holder, surplus]);
    return rows.filter(({ shard, epoch }) => before.get(shard) !== epoch).map(({ shard }) => shard);
  }

  /** Still ours by our own clock: asked right before something is published. */
  get shards(): number[] {
    return performance.now() < this.validUntil ? [...this.epochs.keys()] : [];
  }

  epochOf(shard: number): string {
    return this.epochs.get(shard) ?? '-1';
  }

  async release(): Promise<void> {
    const held = [...this.epochs.keys()];
    this.epochs = new Map();
    await runStatement(this.dataSource, leave, [this.holder]);
    await runStatement(this.dataSource, giveUp, [this.holder, held]);
  }
}

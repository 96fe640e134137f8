import { randomUUID } from 'node:crypto';
import { Pool } from 'pg';
import type { DataSource } from 'typeorm';
import { runStatement, type Statement } from '../database/transaction.js';
import { errorText, type Logger } from '../logger.js';

/** Shards of an outbox, as its table computes them: the even ones hold events, the odd ones commands. */
export const outboxShards = 16;

const beat: Statement = {
  name: 'outbox-relay-beat',
  text: `WITH gone AS (DELETE FROM outbox_relay WHERE alive_until < clock_timestamp() AND holder <> $1),
              me AS (INSERT INTO outbox_relay (holder, alive_until, alone)
                     VALUES ($1, clock_timestamp() + $2 * interval '1 millisecond', $3)
                     ON CONFLICT (holder) DO UPDATE SET alive_until = excluded.alive_until, alone = excluded.alone)
         SELECT 1 + count(*)::int AS members, coalesce(bool_or(alone), false) AS "othersAlone"
           FROM outbox_relay WHERE holder <> $1 AND alive_until > clock_timestamp()`,
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

export interface OutboxLeaseOptions {
  readonly dataSource: DataSource;
  readonly logger: Logger;
  readonly durationMs: number;
  /** The longest that a broker may take to say what became of a message; nothing is sent later than that before the end. */
  readonly sendMs: number;
  /** Whether something of this shard is on its way: then it is not given to another yet. */
  readonly busy: (shard: number) => boolean;
  /** These shards are newly ours. */
  readonly onGain: (shards: readonly number[]) => void;
}

/**
 * The shards that this instance relays. Only the holder of a shard relays it, so that the order of a key is kept over all
 * instances of a service; each has an even share of them, and what a dead one held is taken over when its lease ends.
 *
 * It is renewed by a timer, over a connection that nobody else uses: whatever the brokers or the handlers do, it is lost only
 * when the event loop stands still or the database is away.
 */
export class OutboxLease {
  readonly holder = randomUUID();
  /** Fencing token of each shard held, as a decimal string. */
  private epochs: ReadonlyMap<number, string> = new Map();
  /** Too many for our share; given to others as soon as nothing of them is on its way. */
  private surplus = new Set<number>();
  private validUntil = 0;
  /** Instances seen alive at the last renewal, this one included. */
  members = 1;
  private othersAlone = false;
  private announced = false;
  private aloneUntil = 0;
  private timer: NodeJS.Timeout | undefined;
  private renewing: Promise<void> | undefined;
  private stopped = false;
  private pool: Pool | undefined;

  constructor(private readonly options: OutboxLeaseOptions) {}

  /** Tried until it works, again and again. */
  start(): void {
    if (!this.renewing && !this.stopped) this.renewSoon(0);
  }

  /** Still ours by our own clock, for long enough to send something and hear what became of it. */
  get shards(): number[] {
    return this.validForMs > this.options.sendMs ? [...this.epochs.keys()] : [];
  }

  holds(shard: number): boolean {
    return this.epochs.has(shard) && this.validForMs > this.options.sendMs;
  }

  epochOf(shard: number): string {
    return this.epochs.get(shard) ?? '-1';
  }

  /** No other instance writes: those that join wait until this has ended. */
  get alone(): boolean {
    return performance.now() < this.aloneUntil;
  }

  /** Resolves once every other instance knows of this one. */
  async join(): Promise<void> {
    for (;;) {
      await this.renewNow();
      if (!this.othersAlone) return;
      await new Promise((resolve) => setTimeout(resolve, this.everyMs / 4));
    }
  }

  /** What is still on its way keeps its shard until the lease ends. */
  async release(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.timer);
    await this.renewing;
    const free = [...this.epochs.keys(), ...this.surplus].filter((shard) => !this.options.busy(shard));
    this.epochs = new Map();
    this.aloneUntil = 0;
    try {
      await runStatement(this.connection, leave, [this.holder]);
      await runStatement(this.connection, giveUp, [this.holder, free]);
    } finally {
      await this.pool?.end();
    }
  }

  private get connection(): DataSource {
    if (!this.pool) {
      const { master } = this.options.dataSource.driver as unknown as { readonly master: Pool };
      this.pool = new Pool({ ...master.options, max: 1, min: 0 });
      // The next renewal opens another.
      this.pool.on('error', () => undefined);
    }
    return { driver: { master: this.pool } } as unknown as DataSource;
  }

  private get validForMs(): number {
    return this.validUntil - performance.now();
  }

  /** Often enough that one that was lost costs nothing. */
  private get everyMs(): number {
    return Math.min(1_000, this.options.durationMs / 8);
  }

  private renewSoon(ms: number): void {
    clearTimeout(this.timer);
    if (this.stopped) return;
    this.timer = setTimeout(() => {
      this.renewNow().catch((error: unknown) => {
        this.options.logger.warn('the lease of the outbox could not be renewed; it is tried again', {
          error: errorText(error),
        });
      });
    }, ms).unref();
  }

  private renewNow(): Promise<void> {
    this.renewing ??= this.renew().finally(() => {
      this.renewing = undefined;
      this.renewSoon(this.everyMs);
    });
    return this.renewing;
  }

  private async renew(): Promise<void> {
    await this.beat();
    const { durationMs, onGain, busy } = this.options;
    const asked = performance.now();
    const share = Math.ceil(outboxShards / this.members);
    const rows = await runStatement<{ shard: number; epoch: string }>(this.connection, take, [
      this.holder,
      durationMs,
      share,
    ]);
    const before = this.epochs;
    this.epochs = new Map(rows.map(({ shard, epoch }) => [shard, epoch]));
    // Counted from before the question, so that our idea of the lease ends before the database's.
    this.validUntil = asked + durationMs;
    const gained = rows.filter(({ shard, epoch }) => before.get(shard) !== epoch).map(({ shard }) => shard);
    if (gained.length > 0) onGain(gained);
    for (const shard of before.keys()) if (!this.epochs.has(shard)) this.surplus.add(shard);
    for (const shard of this.epochs.keys()) this.surplus.delete(shard);
    const free = [...this.surplus].filter((shard) => !busy(shard));
    if (free.length > 0) await runStatement(this.connection, giveUp, [this.holder, free]);
    for (const shard of free) this.surplus.delete(shard);
  }

  /**
   * Being alone takes two beats: the first tells, the second finds that still nobody was there. Whoever joins between the two is
   * seen by the second or sees what the first has told, and waits. Losing it takes two as well, in the other order.
   */
  private async beat(): Promise<void> {
    const announced = this.announced;
    const asked = performance.now();
    const { durationMs } = this.options;
    const [seen] = await runStatement<{ members: number; othersAlone: boolean }>(this.connection, beat, [
      this.holder,
      durationMs,
      announced,
    ]);
    this.members = seen?.members ?? 1;
    this.othersAlone = seen?.othersAlone ?? false;
    this.announced = this.members === 1;
    this.aloneUntil = this.announced && announced ? asked + durationMs : 0;
    if (this.announced !== announced) await this.beat();
  }
}

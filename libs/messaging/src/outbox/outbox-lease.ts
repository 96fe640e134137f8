import { randomUUID } from 'node:crypto';
import type { ClientBase, Pool, QueryResultRow } from 'pg';
import type { DataSource } from 'typeorm';
import { DatabaseClient } from '../database/database-client.js';
import type { Statement } from '../database/transaction.js';
import { errorText, type Logger } from '../logger.js';

/** Shards of an outbox, as its table computes them: the even ones hold events, the odd ones commands. */
export const outboxShards = 16;

// Its connection has ended, so the process has: one that lives and has lost it sends nothing before it has beaten again. Behind
// a pooler, where nobody has a session, only time tells. Of sessions of another role no beginning is shown: they count as alive.
const ended = `relay.backend IS NOT NULL AND NOT EXISTS (
                 SELECT FROM pg_stat_get_activity(relay.backend) AS session
                  WHERE session.backend_start IS NULL OR session.backend_start = relay.backend_start)`;

// Whoever relies on being alone removes nobody: it has to see, and to read what that one has left, before the row is gone. Rows
// are locked in one order: two that are both late would each remove the other and wait for their own.
const beat: Statement = {
  name: 'outbox-relay-beat',
  text: `WITH locked AS MATERIALIZED (
                SELECT holder FROM outbox_relay WHERE holder = $1 OR ($3 AND alive_until < clock_timestamp()) ORDER BY holder FOR UPDATE),
              gone AS (DELETE FROM outbox_relay late USING locked
                        WHERE late.holder = locked.holder AND late.holder <> $1 AND late.alive_until < clock_timestamp() RETURNING 1),
              me AS (INSERT INTO outbox_relay (holder, alive_until, backend, backend_start)
                     SELECT $1, clock_timestamp() + $2 * interval '1 millisecond', CASE WHEN $4 THEN pid END, backend_start
                       FROM pg_stat_get_activity(pg_backend_pid())
                     ON CONFLICT (holder) DO UPDATE SET alive_until = excluded.alive_until, backend = excluded.backend,
                                                        backend_start = excluded.backend_start)
         SELECT count(*)::int AS known, count(*) FILTER (WHERE alive_until > clock_timestamp() AND NOT (${ended}))::int AS alive,
                (SELECT count(*)::int FROM gone) AS gone
           FROM outbox_relay relay WHERE holder <> $1`,
};

// Its own first, so that shards change hands only when the share of an instance changes. It waits for those: whoever makes dead
// letters of their rows has them locked for a moment.
const take: Statement = {
  name: 'outbox-lease-take',
  text: `WITH own AS MATERIALIZED (SELECT shard FROM outbox_lease WHERE holder = $1 ORDER BY shard LIMIT $3 FOR UPDATE),
              free AS MATERIALIZED (
                SELECT shard FROM outbox_lease
                 WHERE holder IS DISTINCT FROM $1 AND (expires_at < clock_timestamp()
                       OR holder IN (SELECT holder FROM outbox_relay relay WHERE ${ended}))
                 ORDER BY shard LIMIT greatest(0, $3 - (SELECT count(*) FROM own)) FOR UPDATE SKIP LOCKED)
         UPDATE outbox_lease lease
            SET holder = $1, epoch = epoch + (lease.holder IS DISTINCT FROM $1)::int,
                expires_at = clock_timestamp() + $2 * interval '1 millisecond'
           FROM (SELECT shard FROM own UNION ALL SELECT shard FROM free) mine
          WHERE lease.shard = mine.shard
         RETURNING lease.shard, lease.epoch`,
};

const giveUp: Statement = {
  name: 'outbox-lease-give-up',
  text: `UPDATE outbox_lease SET expires_at = '-infinity' WHERE holder = $1 AND shard = ANY($2)`,
};

// It stays until somebody has seen it. What is still on its way keeps its shard, although the session ends.
const leave: Statement = {
  name: 'outbox-relay-leave',
  text: `UPDATE outbox_relay SET alive_until = clock_timestamp(), backend = NULL WHERE holder = $1`,
};

export interface OutboxLeaseOptions {
  readonly dataSource: DataSource;
  readonly logger: Logger;
  readonly durationMs: number;
  /** The longest that a broker may take to say what became of a message; nothing is sent later than that before the end. */
  readonly sendMs: number;
  /** Whether something of this shard is on its way: then it is not given to another yet. */
  readonly busy: (shard: number) => boolean;
  /** Shards are newly ours, or what others have written last is not read yet. Before it is relied on. */
  readonly startOver: () => void;
}

/**
 * The shards that this instance relays. Only the holder of a shard relays it, so that the order of a key is kept over all
 * instances of a service; each has an even share of them. What a dead one held is taken over as soon as its session has ended, or
 * when its lease ends. Should it live all the same, it sends nothing that is not in order, and deletes nothing.
 *
 * It is renewed by a timer, over a connection that nobody else uses: whatever the brokers or the handlers do, it is lost only
 * when the event loop stands still or the connection breaks.
 */
export class OutboxLease {
  readonly holder = randomUUID();
  /** Fencing token of each shard held, as a decimal string. */
  private epochs: ReadonlyMap<number, string> = new Map();
  /** Too many for our share; given to others as soon as nothing of them is on its way. */
  private surplus = new Set<number>();
  private validUntil = 0;
  /** What was in hand has been let go. */
  private interrupted = false;
  /** Instances seen alive at the last renewal, this one included. */
  members = 1;
  /**
   * The table knew of no other instance when it was last looked at, and all that others have written is read before anything
   * is taken from a commit. Whether it is so at a write, the write itself finds out ({@link Outbox}).
   */
  alone = false;
  private timer: NodeJS.Timeout | undefined;
  private renewing: Promise<void> | undefined;
  private stopped = false;
  private client: DatabaseClient | undefined;

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

  /** Resolves once writes of other instances find this one in the table. */
  join(): Promise<void> {
    return this.renewNow();
  }

  /** What is still on its way keeps its shard until the lease ends. */
  async release(): Promise<void> {
    this.stopped = true;
    clearTimeout(this.timer);
    await this.renewing?.catch(() => undefined);
    const free = [...this.epochs.keys(), ...this.surplus].filter((shard) => !this.options.busy(shard));
    this.epochs = new Map();
    this.alone = false;
    try {
      await this.run(leave, [this.holder]);
      await this.run(giveUp, [this.holder, free]);
    } finally {
      await this.client?.end();
    }
  }

  private async run<Row extends QueryResultRow>(statement: Statement, values: unknown[]): Promise<Row[]> {
    const client = (this.client ??= await this.connect());
    try {
      return (await (client as ClientBase).query<Row>({ ...statement, values })).rows;
    } catch (error) {
      if (client.outdated) this.lose(client);
      throw error;
    }
  }

  private async connect(): Promise<DatabaseClient> {
    const { master } = this.options.dataSource.driver as unknown as { readonly master: Pool };
    const { Client = DatabaseClient } = master.options as unknown as { readonly Client?: typeof DatabaseClient };
    const client = new Client(master.options);
    client.on('error', () => this.lose(client));
    client.on('end', () => this.lose(client));
    try {
      await client.connect();
      await client.openSession();
      return client;
    } catch (error) {
      this.lose(client);
      throw error;
    }
  }

  /** Others may take us for dead. What we hold is ours again with the next beat, or somebody else's. */
  private lose(client: DatabaseClient): void {
    void client.end().catch(() => undefined);
    if (client !== this.client) return;
    this.client = undefined;
    this.validUntil = 0;
    this.interrupted = true;
    if (!this.renewing) this.renewSoon(0);
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
    const { durationMs, startOver, busy } = this.options;
    const asked = performance.now();
    const share = Math.ceil(outboxShards / this.members);
    const rows = await this.run<{ shard: number; epoch: string }>(take, [this.holder, durationMs, share]);
    const before = this.epochs;
    this.epochs = new Map(rows.map(({ shard, epoch }) => [shard, epoch]));
    // Counted from before the question, so that our idea of the lease ends before the database's.
    this.validUntil = asked + durationMs;
    if (this.interrupted || rows.some(({ shard, epoch }) => before.get(shard) !== epoch)) startOver();
    this.interrupted = false;
    for (const shard of before.keys()) if (!this.epochs.has(shard)) this.surplus.add(shard);
    for (const shard of this.epochs.keys()) this.surplus.delete(shard);
    const free = [...this.surplus].filter((shard) => !busy(shard));
    if (free.length > 0) await this.run(giveUp, [this.holder, free]);
    for (const shard of free) this.surplus.delete(shard);
  }

  private async beat(): Promise<void> {
    this.client ??= await this.connect();
    const { durationMs, startOver } = this.options;
    const values = [this.holder, durationMs, !this.alone, !this.client.pooled];
    const [seen = { known: 0, alive: 0, gone: 0 }] = await this.run<Seen>(beat, values);
    this.members = 1 + seen.alive;
    const { alone } = this;
    if (seen.known === 0 && !alone) startOver();
    this.alone = seen.known === 0;
    if (!alone && seen.known > 0 && seen.gone === seen.known) await this.beat();
  }
}

/** Other instances. */
interface Seen extends QueryResultRow {
  /** In the table, at the beginning of the beat. */
  readonly known: number;
  readonly alive: number;
  /** Removed by it, because their time was over. */
  readonly gone: number;
}

import type { DataSource } from 'typeorm';
import { failpoint, failpointSoon } from '../failpoint.js';
import { backoffDelay } from '../failure-policy.js';
import { errorText, type Logger } from '../logger.js';
import type { CommandTransport } from '../transport/command-transport.js';
import type { EventTransport } from '../transport/event-transport.js';
import { HeldKeys, type OutgoingProblem } from './held-keys.js';
import type { Outbox } from './outbox.js';
import { OutboxBacklog, type OutboxMarks } from './outbox-backlog.js';
import { OutboxBell } from './outbox-bell.js';
import { OutboxLease } from './outbox-lease.js';
import { deleteRows, selectRows } from './outbox-rows.js';
import { publishRows, type OutboxRow } from './publish-rows.js';
import { ScanFloors } from './scan-floors.js';
import { Wakeable } from '../wakeable.js';

export interface OutboxRelayOptions {
  readonly dataSource: DataSource;
  readonly outbox: Outbox;
  readonly commands: CommandTransport;
  readonly events: EventTransport;
  readonly logger: Logger;
  /** Most rows that are published and not confirmed. Default 500. */
  readonly window?: number;
  /** Looks this often even when nobody wakes it, and five times less often the longer nothing comes. Default 200 ms. */
  readonly pollMs?: number;
  /** An instance that died is succeeded after this long. Default 5 000 ms. */
  readonly leaseMs?: number;
  /** Past these the service should accept no more work. */
  readonly outboxMarks?: OutboxMarks;
}

export interface OutboxMetrics {
  /** Rows that wait, over all instances; counted no further than just past the high mark. */
  readonly depth: number;
  readonly oldestAgeMs: number;
  /** Messages that a broker has confirmed to this instance. */
  readonly published: number;
  /** Attempts to publish that failed. */
  readonly failures: number;
  /** Keys that wait behind a message that failed. */
  readonly heldKeys: number;
  /** Shards that this instance relays, of 16. */
  readonly shards: number;
}

const backoff = { baseMs: 100, maxMs: 30_000 };

/**
 * Publishes what the outbox holds, in order per key, and deletes a row only after the broker confirmed it. Rows are always
 * taken from the front: a transaction that commits late is found, however low its positions are. While one batch is with the
 * brokers, the batch before it is deleted and the one behind it is read.
 */
export class OutboxRelay {
  readonly backlog: OutboxBacklog;
  private readonly lease: OutboxLease;
  private readonly bell: OutboxBell;
  private readonly floors: ScanFloors;
  private readonly held = new HeldKeys();
  private readonly signal = new Wakeable();
  private readonly window: number;
  private readonly pollMs: number;
  /** Rows taken and not deleted yet, by position. */
  private inHand = new Map<string, OutboxRow>();
  private ahead: Promise<OutboxRow[]> | undefined;
  private deleting: Promise<void> = Promise.resolve();
  private busyShards = 1;
  private stopping = false;
  private loop: Promise<void> | undefined;
  /** Messages confirmed by a broker since the start. */
  published = 0;
  private failures = 0;

  constructor(private readonly options: OutboxRelayOptions) {
    const { dataSource, outbox, logger, leaseMs = 5_000, window = 500, pollMs = 200 } = options;
    this.lease = new OutboxLease(dataSource, leaseMs);
    this.bell = new OutboxBell(dataSource, this.lease.holder, logger, () => this.signal.wake());
    this.backlog = new OutboxBacklog(dataSource, options.outboxMarks);
    this.floors = new ScanFloors(dataSource);
    this.window = window;
    this.pollMs = pollMs;
    outbox.onWritten(() => {
      this.signal.wake();
      if (this.lease.members > 1) this.bell.ring();
    });
  }

  get metrics(): OutboxMetrics {
    return {
      depth: this.backlog.rows,
      oldestAgeMs: this.backlog.oldestMs,
      published: this.published,
      failures: this.failures,
      heldKeys: this.held.size,
      shards: this.lease.shards.length,
    };
  }

  /** What the brokers do not take: fix what the error tells, or let go of it with {@link discardOutgoing}. */
  problems(): OutgoingProblem[] {
    return this.held.problems();
  }

  start(): void {
    this.backlog.start();
    this.loop ??= this.run();
  }

  /** Publishes nothing more; resolves when the batch in hand is settled. What is left stays in the outbox. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.signal.wake();
    await this.loop;
    await Promise.all([this.backlog.stop(), this.bell.close(), this.lease.release().catch(() => undefined)]);
  }

  private async run(): Promise<void> {
    let [failures, idle] = [0, 0];
    while (!this.stopping) {
      try {
        const found = await this.step();
        failures = 0;
        idle = found > 0 ? 0 : idle + 1;
        if (idle > 0 && !(await this.bell.rest())) await this.signal.wait(this.restMs(idle));
      } catch (error) {
        failures += 1;
        await this.startOver();
        this.options.logger.warn('outbox relay failed; it tries again', { failures, error: errorText(error) });
        await this.signal.wait(backoffDelay(failures, backoff), { deaf: true });
      }
    }
    await this.startOver();
  }

  private restMs(idle: number): number {
    return Math.min(this.pollMs * Math.min(5, idle), this.lease.dueInMs);
  }

  /** Returns the number of rows that went out: 0 lets the loop rest. */
  private async step(): Promise<number> {
    if (this.lease.dueInMs === 0) await this.renew();
    await this.floors.raise();
    const taken = await (this.ahead ?? this.take());
    this.ahead = undefined;
    const batch = this.publishable(taken);
    if (batch.length === 0) return 0;
    failpoint('outbox.before-publish');
    const epochs = new Map(this.lease.shards.map((shard) => [shard, this.lease.epochOf(shard)]));
    const publishing = publishRows(batch, this.options);
    failpointSoon('outbox.before-confirm');
    // Only where there is a backlog: else it would ask twice for each message.
    if (taken.length >= this.window / 2) {
      this.ahead = this.take();
      this.ahead.catch(() => undefined);
    }
    const { confirmed, failed } = await publishing;
    failpoint('outbox.after-confirm');
    this.published += confirmed.length;
    confirmed.forEach((row) => this.held.letGo(row));
    for (const { row, error } of failed) this.holdBack(row, error);
    if (failed.length > 0) this.leaveOut(new Set(failed.map(({ row }) => row.ordering_key)));
    const settled = new Set(confirmed.map(({ position }) => position));
    this.putBack(batch.filter(({ position }) => !settled.has(position)));
    await this.deleting;
    this.deleting = this.delete(confirmed, epochs);
    this.deleting.catch(() => undefined);
    if (!this.ahead) await this.deleting;
    return confirmed.length;
  }

  private async renew(): Promise<void> {
    await this.deleting;
    const gained = await this.lease.renew();
    if (gained.length > 0) await this.startOver();
    this.bell.listen(this.lease.members > 1);
  }

  private async take(): Promise<OutboxRow[]> {
    const open = { command: this.isOpen('command'), event: this.isOpen('event') };
    const shards = this.lease.shards.filter((shard) => open[shard % 2 === 1 ? 'command' : 'event']);
    if (shards.length === 0) return [];
    const full = this.floors.fullLookDue(this.held.due);
    const asked = performance.now();
    const rows = await selectRows(this.options.dataSource, {
      floors: new Map(shards.map((shard) => [shard, full ? 0 : this.floors.of(shard)])),
      except: [...this.inHand.keys()],
      // What a key holds back may lie below the floors, where only a full look finds it first.
      exceptKeys: this.held.keys(full),
      limitOfShard: Math.ceil(this.window / this.busyShards),
      limit: this.window,
    });
    if (full) {
      this.floors.fullLookTook(performance.now() - asked);
      if (rows.length < this.window) this.held.forgetUnseen([...this.inHand.values(), ...rows]);
    }
    this.busyShards = Math.max(1, new Set(rows.map(({ shard }) => shard)).size);
    for (const row of rows) this.inHand.set(row.position, row);
    return rows;
  }

  private isOpen(channel: OutboxRow['channel']): boolean {
    return this.options[`${channel}s`].connected && !this.held.exhausted(channel);
  }

  /** Without those of shards that are not ours any more. */
  private publishable(taken: readonly OutboxRow[]): OutboxRow[] {
    const shards = new Set(this.lease.shards);
    this.putBack(taken.filter(({ shard }) => !shards.has(shard)));
    return taken.filter(({ shard }) => shards.has(shard));
  }

  /** What was read ahead may hold successors of what has just failed. */
  private leaveOut(keys: ReadonlySet<string>): void {
    if (!this.ahead) return;
    this.ahead = this.ahead.then((rows) => {
      this.putBack(rows.filter((row) => keys.has(row.ordering_key)));
      return rows.filter((row) => !keys.has(row.ordering_key));
    });
    this.ahead.catch(() => undefined);
  }

  private async delete(confirmed: readonly OutboxRow[], epochs: ReadonlyMap<number, string>): Promise<void> {
    if (confirmed.length === 0) return;
    await deleteRows(
      this.options.dataSource,
      confirmed.map((row) => ({ row, epoch: epochs.get(row.shard) ?? '-1' })),
    );
    failpoint('outbox.after-delete');
    this.floors.deleted(confirmed);
    this.putBack(confirmed);
  }

  private putBack(rows: readonly OutboxRow[]): void {
    for (const { position } of rows) this.inHand.delete(position);
  }

  /** Whatever is in the air comes down; what was not deleted is read again. */
  private async startOver(): Promise<void> {
    await Promise.allSettled([this.ahead, this.deleting]);
    this.ahead = undefined;
    this.deleting = Promise.resolve();
    this.inHand = new Map();
    this.floors.reset();
  }

  private holdBack(row: OutboxRow, error: unknown): void {
    this.failures += 1;
    const { id, type, key, failures, retryInMs, error: text } = this.held.hold(row, error);
    this.options.logger.warn('a message could not be published; its key waits, others go on', {
      id,
      type,
      key,
      failures,
      retryInMs,
      error: text,
    });
  }
}

import type { DataSource } from 'typeorm';
import { failpoint, failpointSoon } from '../failpoint.js';
import { backoffDelay } from '../failure-policy.js';
import { errorText, type Logger } from '../logger.js';
import type { CommandTransport } from '../transport/command-transport.js';
import type { EventTransport } from '../transport/event-transport.js';
import type { Outbox } from './outbox.js';
import { OutboxLease } from './outbox-lease.js';
import { publishRows, type OutboxRow } from './publish-rows.js';
import { Wakeable } from './wakeable.js';

export interface OutboxRelayOptions {
  readonly dataSource: DataSource;
  readonly outbox: Outbox;
  readonly commands: CommandTransport;
  readonly events: EventTransport;
  readonly logger: Logger;
  /** Most rows published and confirmed at once. Default 500. */
  readonly window?: number;
  /** Looks this often even when nobody wakes it: another instance may have written. Default 200 ms. */
  readonly pollMs?: number;
  /** A holder that died is succeeded after this long. Default 5 000 ms. */
  readonly leaseMs?: number;
}

interface HeldBack {
  readonly channel: OutboxRow['channel'];
  readonly until: number;
  readonly failures: number;
}

const backoff = { baseMs: 100, maxMs: 30_000 };

/** With so many failing keys it is the broker that fails, and its channel rests; the other one goes on. */
const mostHeldBack = 1_000;

/**
 * Publishes what the outbox holds, in order per key, and deletes a row only after the broker confirmed it. Rows are always
 * taken from the front: a transaction that commits late is found, however low its positions are.
 */
export class OutboxRelay {
  private readonly lease: OutboxLease;
  private readonly signal = new Wakeable();
  /** Keys whose head failed, with the time from which they are tried again (`performance.now()` milliseconds). */
  private readonly heldBack = new Map<string, HeldBack>();
  private readonly window: number;
  private stopping = false;
  private loop: Promise<void> | undefined;
  /** Messages confirmed by a broker since the start. */
  published = 0;

  constructor(private readonly options: OutboxRelayOptions) {
    this.lease = new OutboxLease(options.dataSource, options.leaseMs ?? 5_000);
    this.window = options.window ?? 500;
    options.outbox.onWritten(() => this.signal.wake());
  }

  start(): void {
    this.loop ??= this.run();
  }

  /** Publishes nothing more; resolves when the batch in hand is settled. What is left stays in the outbox. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.signal.wake();
    await this.loop;
    await this.lease.release().catch(() => undefined);
  }

  private async run(): Promise<void> {
    let failures = 0;
    while (!this.stopping) {
      try {
        const found = (await this.lease.hold()) ? await this.relayBatch() : 0;
        failures = 0;
        if (found === 0) await this.signal.wait(this.options.pollMs ?? 200);
      } catch (error) {
        failures += 1;
        this.options.logger.warn('outbox relay failed; it tries again', { failures, error: errorText(error) });
        await this.signal.wait(backoffDelay(failures, backoff), { deaf: true });
      }
    }
  }

  /** Returns the number of rows that went out: 0 lets the loop rest. */
  private async relayBatch(): Promise<number> {
    const rows = await this.take();
    if (rows.length === 0 || !this.lease.valid) return 0;
    failpoint('outbox.before-publish');
    const publishing = publishRows(rows, this.options);
    failpointSoon('outbox.before-confirm');
    const { confirmed, failed } = await publishing;
    failpoint('outbox.after-confirm');
    if (confirmed.length > 0) {
      await this.options.dataSource.query('DELETE FROM outbox WHERE position = ANY($1)', [
        confirmed.map((row) => row.position),
      ]);
      failpoint('outbox.after-delete');
      this.published += confirmed.length;
      confirmed.forEach((row) => this.heldBack.delete(row.ordering_key));
    }
    for (const { row, error } of failed) this.holdBack(row, error);
    return confirmed.length;
  }

  private async take(): Promise<OutboxRow[]> {
    const now = performance.now();
    const held = [...this.heldBack].filter(([, { until }]) => until > now);
    const channels = (['command', 'event'] as const).filter(
      (channel) =>
        this.options[`${channel}s`].connected &&
        held.filter(([, heldBack]) => heldBack.channel === channel).length < mostHeldBack,
    );
    if (channels.length === 0) return [];
    return this.options.dataSource.query<OutboxRow[]>(
      `SELECT position, channel, address, ordering_key, message FROM outbox
       WHERE channel = ANY($1) AND ordering_key <> ALL($2) ORDER BY position LIMIT $3`,
      [channels, held.map(([key]) => key), this.window],
    );
  }

  private holdBack(row: OutboxRow, error: unknown): void {
    const failures = (this.heldBack.get(row.ordering_key)?.failures ?? 0) + 1;
    const waitMs = backoffDelay(failures, backoff);
    this.heldBack.set(row.ordering_key, { channel: row.channel, until: performance.now() + waitMs, failures });
    this.options.logger.warn('a message could not be published; its key waits, others go on', {
      id: row.message.id,
      type: row.message.type,
      key: row.ordering_key,
      failures,
      waitMs,
      error: errorText(error),
    });
  }
}

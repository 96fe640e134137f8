import type { DataSource } from 'typeorm';
import { setTimeout as sleep } from 'node:timers/promises';
import { backoffDelay } from '../failure-policy.js';
import { errorText, type Logger } from '../logger.js';
import { Watchdog } from '../monitor/watchdog.js';
import type { CommandTransport } from '../transport/command-transport.js';
import type { EventTransport } from '../transport/event-transport.js';
import { Wakeable } from '../wakeable.js';
import { Destination, type OutgoingProblem } from './destination.js';
import type { Address, Outbox } from './outbox.js';
import { OutboxBacklog, type OutboxMarks } from './outbox-backlog.js';
import { OutboxBell } from './outbox-bell.js';
import { OutboxLease } from './outbox-lease.js';
import type { HeldKey, OutboxRow } from './outbox-row.js';
import { OutboxRows } from './outbox-rows.js';
import { heldKeys, type Refusal } from './refused-rows.js';
import { ScanFloors } from './scan-floors.js';

export interface OutboxRelayOptions {
  readonly dataSource: DataSource;
  readonly outbox: Outbox;
  readonly commands: CommandTransport;
  readonly events: EventTransport;
  readonly logger: Logger;
  /** Most messages of one address that are in hand. Default 500. */
  readonly window?: number;
  /** Looks this often even when nobody wakes it, and five times less often the longer nothing comes. Default 200 ms. */
  readonly pollMs?: number;
  /** An instance that does not answer is succeeded after this long; longer than a send may take. Default 8 000 ms. */
  readonly leaseMs?: number;
  /** Rows go from their commit to the broker without being read, while no other instance is alive. Default true. */
  readonly handOver?: boolean;
  /** What is on its way when it stops may take so long. Default 2 000 ms. */
  readonly stopMs?: number;
  /** Told of each look. */
  readonly watchdog?: Watchdog;
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
  /** Keys whose events wait behind one that its broker refused: a dead letter. */
  readonly heldKeys: number;
  /** Addresses to which nothing can be sent for now. */
  readonly failingAddresses: number;
  /** Shards that this instance relays, of 16. */
  readonly shards: number;
}

const backoff = { baseMs: 100, maxMs: 30_000 };
/** Addresses found with one look; the next one goes on behind them. */
const mostPlaces = 1_000;
/** Looks for work of other instances follow each other so closely while there is some. */
const busyPollMs = 10;
/** A look that was slow must not keep back for long what waits for the next. */
const longestPauseMs = 10_000;
/** How often it is looked which keys wait behind a dead letter. */
const heldMs = 1_000;
/** An address that nobody has used for so long is forgotten. */
const forgetMs = 60_000;

/**
 * Publishes what the outbox holds, and deletes a row only after its broker has confirmed it. What it relies on and keeps to:
 *
 * 1. The table is the truth. What is in memory may be lost at any line: it is read again, and a second copy is harmless. A row
 *    leaves the table when its broker has confirmed it, or has refused it several times and it is a dead letter.
 * 2. Only the holder of a shard sends its rows, and starts to only while its lease outlasts the send ({@link OutboxLease}).
 *    Deleting is fenced by the epoch of the shard: a holder that was succeeded without knowing it deletes nothing.
 * 3. The order of a key holds per address: its rows go out in the order of their positions, and none before it is known that
 *    its predecessor is with the broker. So whatever leaves the memory unsent takes all its successors with it, those that a
 *    read under way may still bring included ({@link Destination}).
 * 4. Each address is on its own: nothing waits for another address, whether its broker is slow, silent or refuses.
 * 5. A broker that does not answer is to blame itself: its messages wait as long as it takes. A message that is refused is a
 *    dead letter after a few attempts; the events behind it in its key wait for an operator, commands have no successors.
 * 6. An instance that is alone hands rows from their commit to their destination without reading them ({@link Outbox}, which
 *    leaves out a key that two transactions write at once). A destination takes them only while it has read all that was there
 *    before; whatever it does not take, or lets go of, is read before anything else is taken again. Whether it is alone is found
 *    out by the statement that writes: nobody else writes before it stands in the table ({@link OutboxLease.join}).
 * 7. Rows are taken as a queue, never behind a high-water mark: a transaction that commits late is found, however low its
 *    positions are ({@link ScanFloors}).
 */
export class OutboxRelay {
  readonly backlog: OutboxBacklog;
  private readonly rows: OutboxRows;
  private readonly lease: OutboxLease;
  private readonly bell: OutboxBell;
  private readonly floors: ScanFloors;
  private readonly destinations = new Map<string, Destination>();
  private readonly signal = new Wakeable();
  private readonly pollMs: number;
  private readonly watchdog: Watchdog;
  /** The address behind which the next look begins. */
  private placesAfter = '';
  private placesDueAt = 0;
  private heldDueAt = 0;
  private held: readonly HeldKey[] = [];
  /** Before it is known which keys wait nothing is read. */
  private heldKnown = false;
  /** Beginnings and ends of making dead letters of events: what was looked up before one of them does not know of it. */
  private buried = 0;
  private stopping = false;
  private loop: Promise<void> | undefined;
  /** Messages confirmed by a broker since the start. */
  published = 0;
  private failures = 0;

  constructor(private readonly options: OutboxRelayOptions) {
    const { dataSource, outbox, logger, leaseMs = 8_000, pollMs = 200, handOver = true } = options;
    this.pollMs = pollMs;
    this.watchdog = options.watchdog ?? new Watchdog();
    const sendMs = Math.max(options.commands.longestSendMs ?? 0, options.events.longestSendMs ?? 0);
    if (leaseMs < 1.5 * sendMs) {
      throw new Error(
        `leaseMs is ${leaseMs}, and a message may be on its way to its broker for ${sendMs} ms: ` +
          `make it ${1.5 * sendMs} or more, or the time limits of the transports shorter`,
      );
    }
    this.rows = new OutboxRows(dataSource);
    this.floors = new ScanFloors(this.rows);
    this.lease = new OutboxLease({
      ...{ dataSource, logger, sendMs, durationMs: leaseMs },
      busy: (shard) => [...this.destinations.values()].some((destination) => destination.has(shard)),
      startOver: () => this.startOver(),
    });
    this.bell = new OutboxBell(dataSource, this.lease.holder, logger, () => this.signal.wake());
    this.backlog = new OutboxBacklog(dataSource, options.outboxMarks, { held: () => this.held });
    const { lease } = this;
    outbox.onWritten({
      get takesRowsAs() {
        return handOver && lease.alone ? lease.holder : undefined;
      },
      written: (addresses, rows) => this.written(addresses, rows),
    });
  }

  get metrics(): OutboxMetrics {
    return {
      depth: this.backlog.rows,
      oldestAgeMs: this.backlog.oldestMs,
      published: this.published,
      failures: this.failures,
      heldKeys: this.held.length,
      failingAddresses: this.problems().length,
      shards: this.lease.shards.length,
    };
  }

  /** Addresses to which this instance can send nothing for now; what is refused is among the dead letters. */
  problems(): OutgoingProblem[] {
    return [...this.destinations.values()].flatMap((destination) => destination.problem() ?? []);
  }

  /** Resolves once this instance stands in the table: before that nothing may be written to the outbox. */
  join(): Promise<void> {
    return this.lease.join();
  }

  start(): void {
    this.backlog.start();
    this.lease.start();
    this.loop ??= this.run();
  }

  /** Sends nothing more; resolves when what is under way is settled, or `stopMs` have passed. What is left stays in the outbox. */
  async stop(): Promise<void> {
    this.stopping = true;
    this.signal.wake();
    await this.loop;
    const closed = Promise.all([...this.destinations.values()].map((destination) => destination.close()));
    await Promise.race([closed, sleep(this.options.stopMs ?? 2_000, undefined, { ref: false })]);
    await Promise.all([this.backlog.stop(), this.bell.close(), this.lease.release().catch(() => undefined)]);
  }

  private async run(): Promise<void> {
    let [failures, idle] = [0, 0];
    while (!this.stopping) {
      try {
        const found = await this.watchdog.during('outbox', () => this.look());
        failures = 0;
        idle = found ? 0 : idle + 1;
        if (idle > 0 && (await this.bell.rest())) continue;
        const soon = found && this.lease.members > 1;
        await this.signal.wait(soon ? busyPollMs : this.pollMs * Math.min(5, Math.max(1, idle)));
      } catch (error) {
        failures += 1;
        this.options.logger.warn('outbox relay failed; it tries again', { failures, error: errorText(error) });
        await this.signal.wait(backoffDelay(failures, backoff), { deaf: true });
      }
    }
  }

  /** Finds what others have written, and what has to be read again. @returns whether there was something */
  private async look(): Promise<boolean> {
    const { shards, members } = this.lease;
    this.bell.listen(members > 1);
    if (shards.length === 0) return false;
    await this.floors.raise();
    if (performance.now() >= this.heldDueAt) await this.lookUpHeld();
    // Never more than a twentieth of the time, however many deleted rows have to be passed over.
    if (performance.now() < this.placesDueAt) {
      for (const destination of this.destinations.values()) destination.wake();
      return false;
    }
    const asked = performance.now();
    const places = await this.rows.places(shards, { after: this.placesAfter, held: this.held, most: mostPlaces });
    this.placesDueAt = performance.now() + Math.min(20 * (performance.now() - asked), longestPauseMs);
    this.placesAfter = places.length < mostPlaces ? '' : (places.at(-1)?.address ?? '');
    for (const place of places) {
      // What lies there and is not in hand was let go of by an earlier holder, or its transaction committed very late.
      if (Number(place.position) <= this.floors.of(place)) this.floors.reset(place);
    }
    const found = new Set(places.map(({ channel, address }) => this.destination(channel, address)));
    const awake = [...found].filter((destination) => destination.wake());
    for (const [name, destination] of this.destinations) {
      if (!found.has(destination) && destination.idleFor(forgetMs)) this.destinations.delete(name);
    }
    return awake.length > 0;
  }

  private async lookUpHeld(): Promise<void> {
    const { buried } = this;
    const held = await heldKeys(this.options.dataSource);
    if (buried !== this.buried) return;
    this.heldKnown = true;
    this.heldDueAt = performance.now() + heldMs;
    this.held = held;
    const byAddress = new Map<string, Set<string>>();
    for (const { address, key } of held) byAddress.set(address, (byAddress.get(address) ?? new Set()).add(key));
    for (const address of byAddress.keys()) this.destination('event', address);
    for (const destination of this.destinations.values()) {
      if (destination.channel === 'event') destination.hold(byAddress.get(destination.address) ?? new Set());
    }
  }

  /** What the former holders of these shards have left has to be read, and which keys they hold. */
  private startOver(): void {
    this.heldKnown = false;
    this.floors.reset();
    this.placesDueAt = 0;
    this.heldDueAt = 0;
    // It has not read what is there: nothing is taken before it has.
    for (const destination of this.destinations.values()) destination.wake();
    this.signal.wake();
  }

  private written(addresses: readonly Address[], rows: readonly OutboxRow[] | undefined): void {
    for (const { channel, address } of addresses) {
      const destination = this.destination(channel, address);
      if (!rows) destination.wake();
      else destination.take(rows.filter((row) => row.channel === channel && row.address === address));
    }
    if (this.lease.members > 1) this.bell.ring();
  }

  private destination(channel: OutboxRow['channel'], address: string): Destination {
    const name = `${channel} ${address}`;
    const known = this.destinations.get(name);
    if (known) return known;
    const { commands, events, window = 500, logger } = this.options;
    const made = new Destination({
      ...{ channel, address, window, logger, rows: this.rows, floors: this.floors, lease: this.lease },
      connected: () => (channel === 'command' ? commands : events).connected,
      send: (rows) =>
        channel === 'event'
          ? events.publish(
              address,
              rows.map(({ message }) => message),
            )
          : Promise.all(
              rows.map(({ message, exchange }) =>
                commands.send(message, { routingKey: address, ...(exchange === null ? {} : { exchange }) }),
              ),
            ),
      bury: (refusals) => (channel === 'event' ? this.buryEvents(refusals) : this.rows.bury(refusals)),
      readable: () => this.heldKnown,
      counted: (what, messages) => (this[what] += messages),
    });
    this.destinations.set(name, made);
    return made;
  }

  private async buryEvents(refusals: readonly Refusal[]): Promise<void> {
    this.buried += 1;
    try {
      await this.rows.bury(refusals);
    } finally {
      this.buried += 1;
    }
  }
}

import { NotConfirmedError, publishResults, RefusedError } from '../errors.js';
import { failpoint, failpointSoon } from '../failpoint.js';
import { backoffDelay } from '../failure-policy.js';
import { errorText, type Logger } from '../logger.js';
import type { OutboxLease } from './outbox-lease.js';
import type { OutboxRow } from './outbox-row.js';
import type { OutboxRows } from './outbox-rows.js';
import type { ScanFloors } from './scan-floors.js';
import type { Refusal } from './refused-rows.js';

export interface DestinationOptions {
  readonly channel: OutboxRow['channel'];
  readonly address: string;
  /** Most rows in hand; a read may exceed it by as many. */
  readonly window: number;
  readonly rows: OutboxRows;
  readonly floors: ScanFloors;
  readonly lease: OutboxLease;
  readonly logger: Logger;
  readonly connected: () => boolean;
  /** It is known which keys are held. */
  readonly readable: () => boolean;
  /** One request; those of an event channel in this order. */
  readonly send: (rows: readonly OutboxRow[]) => Promise<unknown>;
  /** Makes dead letters of them. */
  readonly bury: (refusals: readonly Refusal[]) => Promise<void>;
  readonly counted: (outcome: 'published' | 'failures', messages: number) => void;
}

/** A queue, routing key or topic to which nothing can be sent for now. */
export interface OutgoingProblem {
  readonly channel: OutboxRow['channel'];
  readonly address: string;
  /** Milliseconds since its broker last took something, or since the first attempt that it has not answered. */
  readonly forMs: number;
  readonly failures: number;
  readonly error: string;
}

interface Attempt {
  readonly row: OutboxRow;
  /** Why its broker does not have it, as far as we know; none when it has. */
  readonly error?: Error;
}

const backoff = { baseMs: 100, maxMs: 10_000 };
/** While its broker is away: that is seen without sending anything. */
const awayMs = 300;
/** A destination that has failed is tried with so many. */
const probe = 16;

/** Attempts with a message that its broker refuses, over some seconds: its queue may only just be declared. */
const mostAttempts = 4;
const refusedBackoff = { baseMs: 400, factor: 3 };
/** Where everything is refused, that is worked off in this part of the time, so that others do not notice. */
const refusedShare = 1 / 10;
const longestPauseMs = 400;
/** For so long after one has been given up, the next ones are given up at once: thousands must not wait one behind the other. */
const hopelessMs = 60_000;

/**
 * What this instance has in hand for one address. Each is on its own: it reads, sends, rests and gives up without waiting for
 * any other. Within it, the rows of a key go out one after the other, the keys side by side.
 */
export class Destination {
  readonly channel: OutboxRow['channel'];
  readonly address: string;
  /** Read and not deleted yet, by position. */
  private readonly inHand = new Map<string, OutboxRow>();
  /** What is left to be sent of each key, in order; those under way come first. */
  private readonly queues = new Map<string, OutboxRow[]>();
  /** How many of a key are under way: none of the others is sent before it is known what became of these. */
  private readonly busy = new Map<string, number>();
  private readonly ready = new Set<string>();
  /** Keys of events that wait behind a dead letter. */
  private held = new Set<string>();
  /** Attempts with what was refused, by position. */
  private readonly refused = new Map<string, number>();
  /** Refused, until their next attempts: they take no place in the window. */
  private readonly waiting = new Set<string>();
  /** Keys of events whose first one waits so: what is behind it stays in the table. */
  private readonly waitingKeys = new Set<string>();
  private hopelessUntil = 0;
  /** There may be rows that were not read: as long as it is so, nothing is taken from a commit. */
  private unread = true;
  /** Committed since the read under way began. */
  private committedMeanwhile: OutboxRow[] = [];
  private reading = false;
  /** Deleted since the read under way began, which may find them all the same. */
  private deletedMeanwhile = new Set<string>();
  /** Grows when rows are let go unsent: what a read that began before has found may come behind them. */
  private generation = 0;
  private busyShards = 1;
  private resting: NodeJS.Timeout | undefined;
  private readonly timers = new Set<NodeJS.Timeout>();
  private failures = 0;
  private failingSince: number | undefined;
  private lastError = '';
  private closed = false;
  private usedAt = performance.now();
  /** When its broker last took something. */
  private takenAt = -Infinity;
  private readonly idleListeners = new Set<() => void>();

  constructor(private readonly options: DestinationOptions) {
    this.channel = options.channel;
    this.address = options.address;
  }

  /** There may be something to read. @returns false when it rests, and finds that out later */
  wake(): boolean {
    this.unread = true;
    this.advance();
    return !this.resting;
  }

  /** Rows that have just been committed; their predecessors are in hand, or have been sent. */
  take(rows: readonly OutboxRow[]): void {
    const room = this.takenPlaces + this.committedMeanwhile.length + rows.length <= this.options.window;
    if (this.unread || !room || this.resting) this.unread = true;
    else if (this.reading) this.committedMeanwhile.push(...rows);
    else for (const row of rows) this.enqueue(row);
    this.advance();
  }

  /** Nothing has been here for so long. */
  idleFor(ms: number): boolean {
    return this.inHand.size === 0 && !this.resting && !this.reading && performance.now() > this.usedAt + ms;
  }

  get heldKeys(): readonly string[] {
    return [...this.held];
  }

  /** Its dead letters have been looked up: the keys that are not held any more go on. */
  hold(keys: ReadonlySet<string>): void {
    const released = [...this.held].some((key) => !keys.has(key));
    this.held = new Set(keys);
    for (const key of keys) this.drop(key);
    if (!released) return;
    this.resetFloors();
    this.wake();
  }

  /** Something of it is on its way, or about to be. */
  has(shard: number): boolean {
    for (const row of this.inHand.values()) if (row.shard === shard && !this.waiting.has(row.position)) return true;
    return false;
  }

  problem(): OutgoingProblem | undefined {
    if (this.failingSince === undefined) return undefined;
    const { channel, address, failures, lastError: error } = this;
    return { channel, address, failures, error, forMs: Math.round(performance.now() - this.failingSince) };
  }

  /** Sends nothing more; resolves when what is under way is settled. */
  async close(): Promise<void> {
    this.closed = true;
    for (const timer of [this.resting, ...this.timers]) clearTimeout(timer);
    this.dropAll();
    const underWay = () => [...this.inHand.values()].some(({ position }) => !this.refused.has(position));
    while (underWay()) await new Promise<void>((resolve) => this.idleListeners.add(resolve));
  }

  private advance(): void {
    for (const listener of this.idleListeners) listener();
    this.idleListeners.clear();
    if (this.closed) return;
    if (!this.resting && !this.options.connected()) this.restFor(awayMs);
    if (this.resting) return;
    this.sendReady();
    if (this.unread && !this.reading && this.options.readable() && this.takenPlaces <= this.options.window / 2)
      void this.read();
  }

  private get takenPlaces(): number {
    return this.inHand.size - this.waiting.size;
  }

  private async read(): Promise<void> {
    const { rows, lease, floors, window } = this.options;
    const { address, generation } = this;
    const shards = lease.shards.filter((shard) => (shard % 2 === 1) === (this.channel === 'command'));
    // The lease wakes when it has some.
    if (shards.length === 0) return;
    this.reading = true;
    this.unread = false;
    this.committedMeanwhile = [];
    this.usedAt = performance.now();
    const most = this.failures > 0 ? probe : window - this.takenPlaces;
    const mostOfShard = Math.ceil(most / this.busyShards);
    try {
      const found = await rows.read({
        address,
        floors: new Map(shards.map((shard) => [shard, floors.of({ shard, address })])),
        except: [...this.inHand.keys()],
        exceptKeys: [...this.held, ...this.waitingKeys],
        mostOfShard,
        most,
      });
      const byShard = Map.groupBy(found, ({ shard }) => String(shard));
      this.busyShards = Math.max(1, byShard.size);
      if (generation === this.generation) for (const row of found) this.enqueue(row);
      if (
        generation !== this.generation ||
        found.length >= most ||
        [...byShard.values()].some((part) => part.length >= mostOfShard)
      ) {
        this.unread = true;
      }
    } catch {
      // The relay's own look fails as well, and tells; the next one wakes us.
      this.unread = true;
      this.reading = false;
      return;
    }
    // What the read has missed goes behind what it has found; when there is more to be read, that will find it.
    if (!this.unread) for (const row of this.committedMeanwhile) this.enqueue(row);
    this.committedMeanwhile = [];
    this.reading = false;
    this.deletedMeanwhile.clear();
    this.advance();
  }

  private enqueue(row: OutboxRow): void {
    const { position, ordering_key: key } = row;
    if (this.closed || this.inHand.has(position) || this.deletedMeanwhile.has(position) || this.held.has(key)) return;
    if (this.waitingKeys.has(key)) {
      this.unread = true;
      return;
    }
    this.inHand.set(position, row);
    this.queueOf(key).push(row);
    if (!this.busy.has(key)) this.ready.add(key);
  }

  private queueOf(key: string): OutboxRow[] {
    const queue = this.queues.get(key) ?? [];
    this.queues.set(key, queue);
    return queue;
  }

  private sendReady(): void {
    if (this.ready.size === 0) return;
    const batch: OutboxRow[] = [];
    for (const key of this.ready) {
      const queue = this.queues.get(key) ?? [];
      // A command has its own confirm, so it can be followed by the next one only when that has come; a request holds many events.
      const next = this.channel === 'command' ? queue.slice(0, 1) : queue;
      if (next.some(({ shard }) => !this.options.lease.holds(shard))) {
        this.drop(key);
        continue;
      }
      this.busy.set(key, next.length);
      batch.push(...next);
    }
    this.ready.clear();
    if (batch.length === 0) return;
    if (this.channel === 'command') for (const row of batch) void this.send([row]);
    else void this.send(batch);
  }

  private async send(batch: readonly OutboxRow[]): Promise<void> {
    const { lease, counted } = this.options;
    const epochs = new Map(batch.map(({ shard }) => [shard, lease.epochOf(shard)]));
    let attempts: readonly Attempt[];
    try {
      failpoint('outbox.before-publish');
      const sending = this.attempt(batch);
      failpointSoon('outbox.before-confirm');
      attempts = await sending;
      failpoint('outbox.after-confirm');
    } catch (error) {
      this.unanswered(batch, error);
      this.advance();
      return;
    }
    const confirmed = attempts.filter(({ error }) => error === undefined).map(({ row }) => row);
    const failed = attempts.filter(({ error }) => error !== undefined);
    this.remove(confirmed);
    if (confirmed.length > 0) {
      counted('published', confirmed.length);
      this.takenAt = performance.now();
      this.failures = 0;
      this.failingSince = undefined;
      void this.delete(confirmed, epochs);
    }
    if (failed.length > 0) {
      counted('failures', failed.length);
      const away = (error: unknown) => error instanceof NotConfirmedError || !this.options.connected();
      const refused = failed.filter(({ error }) => !away(error));
      const [lost] = failed.filter(({ error }) => away(error));
      this.refuse(refused, epochs);
      if (lost)
        this.unanswered(
          failed.filter(({ error }) => away(error)).map(({ row }) => row),
          lost.error,
        );
    }
    for (const key of new Set(batch.map(({ ordering_key }) => ordering_key))) {
      if (!failed.some(({ row }) => row.ordering_key === key)) this.release(key);
    }
    this.advance();
  }

  /** What is behind a failed one in its key is not among the attempts. */
  private async attempt(rows: readonly OutboxRow[]): Promise<Attempt[]> {
    try {
      await this.options.send(rows);
      return rows.map((row) => ({ row }));
    } catch (thrown) {
      const results = publishResults(thrown, rows.length);
      const stopped = new Set<string>();
      return rows.flatMap((row, at) => {
        if (stopped.has(row.ordering_key)) return [];
        const result = results[at];
        if (!(result instanceof Error)) return [{ row }];
        stopped.add(row.ordering_key);
        return [{ row, error: result }];
      });
    }
  }

  /** They are not to be sent any more. */
  private remove(rows: readonly OutboxRow[]): void {
    const taken = new Set(rows);
    for (const key of new Set(rows.map(({ ordering_key }) => ordering_key))) {
      const left = (this.queues.get(key) ?? []).filter((row) => !taken.has(row));
      if (left.length > 0) this.queues.set(key, left);
      else this.queues.delete(key);
    }
  }

  /** Nothing of the key is under way any more. */
  private release(key: string): void {
    this.busy.delete(key);
    if (this.queues.has(key)) this.ready.add(key);
  }

  private async delete(rows: readonly OutboxRow[], epochs: ReadonlyMap<number, string>): Promise<void> {
    try {
      await this.options.rows.delete(rows.map((row) => ({ row, epoch: epochs.get(row.shard) ?? '-1' })));
      failpoint('outbox.after-delete');
      this.options.floors.deleted(rows);
    } catch (error) {
      // They are read and sent again: a second copy, which is harmless.
      this.options.logger.debug('confirmed messages could not be deleted', { error: errorText(error) });
      this.unread = true;
    }
    this.forget(rows);
    this.advance();
  }

  private forget(rows: readonly OutboxRow[]): void {
    for (const { position } of rows) {
      this.inHand.delete(position);
      this.refused.delete(position);
      this.waiting.delete(position);
      if (this.reading) this.deletedMeanwhile.add(position);
    }
  }

  /** The broker does not answer: it is not the messages, so all of them wait, in the table. */
  private unanswered(rows: readonly OutboxRow[], error: unknown): void {
    this.remove(rows);
    this.letGo(rows);
    for (const { ordering_key: key } of rows) this.busy.delete(key);
    this.dropAll();
    this.lastError = errorText(error);
    this.failingSince ??= performance.now();
    if (this.resting || this.closed) return;
    this.failures += 1;
    const retryInMs = this.options.connected() ? backoffDelay(this.failures, backoff) : awayMs;
    this.restFor(retryInMs);
    const { address, failures, lastError } = this;
    const details = { address, failures, retryInMs: Math.round(retryInMs), error: lastError };
    this.options.logger.warn('nothing can be sent to this address; what is for it waits, the rest goes on', details);
  }

  private restFor(ms: number): void {
    this.dropAll();
    this.unread = true;
    this.resting = setTimeout(() => {
      this.resting = undefined;
      this.advance();
    }, ms);
  }

  /** Of a key, or of all: what is not under way goes back to the table. */
  private drop(key: string): void {
    const queue = this.queues.get(key) ?? [];
    const dropped = queue.splice(this.busy.get(key) ?? 0);
    if (queue.length === 0) this.queues.delete(key);
    this.ready.delete(key);
    this.letGo(dropped);
  }

  private dropAll(): void {
    for (const key of [...this.queues.keys()]) this.drop(key);
  }

  private letGo(rows: readonly OutboxRow[]): void {
    if (rows.length === 0) return;
    for (const { position } of rows) {
      this.inHand.delete(position);
      this.refused.delete(position);
      this.waiting.delete(position);
    }
    this.generation += 1;
    this.unread = true;
    this.resetFloors();
  }

  private resetFloors(): void {
    const { lease, floors } = this.options;
    for (const shard of lease.shards) floors.reset({ shard, address: this.address });
  }

  /** The broker answers, and does not want them. Commands have no successors; those of an event wait. */
  private refuse(attempts: readonly Attempt[], epochs: ReadonlyMap<number, string>): void {
    const again = new Map<number, OutboxRow[]>();
    const given: Refusal[] = [];
    const hopeless = performance.now() < this.hopelessUntil;
    for (const { row, error } of attempts) {
      const { position, ordering_key: key } = row;
      const made = (this.refused.get(position) ?? 0) + 1;
      this.refused.set(position, made);
      if (this.channel === 'event') this.busy.set(key, 1);
      else {
        this.remove([row]);
        this.release(key);
      }
      if (made >= mostAttempts) this.hopelessUntil = performance.now() + hopelessMs;
      if (made >= mostAttempts || hopeless || this.refused.size > this.options.window / 2) {
        given.push({ row, error, attempts: made, epoch: epochs.get(row.shard) ?? '-1' });
      } else again.set(made, [...(again.get(made) ?? []), row]);
    }
    for (const [made, rows] of again) this.tryAgain(rows, backoffDelay(made, refusedBackoff));
    if (given.length > 0) void this.bury(given);
  }

  private tryAgain(rows: readonly OutboxRow[], ms: number): void {
    if (this.closed) return;
    for (const { position, ordering_key: key } of rows) {
      this.waiting.add(position);
      if (this.channel === 'command') continue;
      this.waitingKeys.add(key);
      this.drop(key);
    }
    const timer = setTimeout(() => {
      this.timers.delete(timer);
      if (this.channel === 'event') this.resetFloors();
      for (const row of rows) {
        const key = row.ordering_key;
        this.waiting.delete(row.position);
        if (this.waitingKeys.delete(key)) this.unread = true;
        if (this.channel === 'command') this.queueOf(key).push(row);
        if (this.channel === 'event' || !this.busy.has(key)) this.release(key);
      }
      this.advance();
    }, ms);
    this.timers.add(timer);
  }

  private async bury(refusals: readonly Refusal[]): Promise<void> {
    const rows = refusals.map(({ row }) => row);
    try {
      await this.options.bury(refusals);
      if (this.channel === 'event') for (const { ordering_key: key } of rows) this.held.add(key);
    } catch (error) {
      this.options.logger.warn('what a broker refuses could not be made a dead letter; it is tried again', {
        error: errorText(error),
      });
    }
    if (this.channel === 'event') this.remove(rows);
    for (const { ordering_key: key } of this.channel === 'event' ? rows : []) {
      this.busy.delete(key);
      this.drop(key);
    }
    this.forget(rows);
    this.generation += 1;
    this.unread = true;
    if (refusals.every(({ error }) => blamesDestination(error))) this.pause();
    this.advance();
  }

  /** Where nobody waits for anything but refusals, their work must not take the others' processor and database. */
  private pause(): void {
    if (this.channel !== 'command' || this.resting || this.closed || this.takenAt >= this.usedAt) return;
    const workedMs = performance.now() - this.usedAt;
    this.restFor(Math.min(longestPauseMs, workedMs * (1 / refusedShare - 1)));
  }
}

const blamesDestination = (error: unknown): boolean => error instanceof RefusedError && error.blames === 'destination';

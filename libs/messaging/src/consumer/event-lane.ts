import type { DataSource } from 'typeorm';
import { DatabaseUnavailableError, inTransaction } from '../database/transaction.js';
import { readyOfKeys, type ParkedMessage } from '../inbox/parked.js';
import type { ParkingRoom } from '../inbox/parking-room.js';
import { errorText } from '../logger.js';
import { doneAs, retry, retryBlameless, type Effect } from '../outcome.js';
import { handleBatch, type BatchResult, type Fate, type OrderedEvent } from './event-batch.js';
import { outageRetryMs, report, triage, type TriageContext } from './triage.js';

export interface EventLaneOptions extends TriageContext {
  readonly dataSource: DataSource;
  /** Most events in one transaction. */
  readonly maxBatch: number;
  readonly room: ParkingRoom;
  /** What to do with a parked event. */
  readonly open: (parked: ParkedMessage) => OrderedEvent;
  /** Called after each commit with the keys that have moved, and their last sequences. */
  readonly onHandled: (handled: ReadonlyMap<string, number>) => void;
}

/**
 * The events of a consumer, batch after batch: what has come while one transaction was under way shares the next. An idle
 * lane commits a single event at once, so nobody waits for company. Whoever adds events bounds how many wait here.
 */
export class EventLane {
  private waiting: OrderedEvent[] = [];
  /** Keys whose next event is parked. */
  private readonly followed = new Set<string>();
  private running: Promise<void> | undefined;

  constructor(private readonly options: EventLaneOptions) {}

  add(event: OrderedEvent): void {
    this.waiting.push(event);
    this.running ??= this.run();
  }

  /** The next events of these keys are parked and may be handled now. Resolves when the lane has come to rest. */
  async follow(keys: readonly string[]): Promise<void> {
    for (const key of keys) this.followed.add(key);
    if (keys.length > 0) this.running ??= this.run();
    await this.running;
  }

  private async run(): Promise<void> {
    // One turn later, so that what arrives together travels together.
    await Promise.resolve();
    while (this.waiting.length > 0 || this.followed.size > 0) {
      const parked = await this.takeParked();
      await this.commit([...parked, ...this.waiting.splice(0, this.options.maxBatch - parked.length)]);
    }
    this.running = undefined;
  }

  /** At most half of a batch, so that neither those nor the ones from the transport have to wait for all of the others. */
  private async takeParked(): Promise<OrderedEvent[]> {
    if (this.followed.size === 0) return [];
    const { dataSource, consumer, maxBatch, open, logger } = this.options;
    const keys = [...this.followed];
    this.followed.clear();
    try {
      return (await readyOfKeys(dataSource, consumer, keys, Math.ceil(maxBatch / 2))).map(open);
    } catch (error) {
      // The sweep finds them again.
      logger.warn('parked events could not be read; it is tried again', { consumer, error: errorText(error) });
      return [];
    }
  }

  /** A batch that fails is halved, in order, until what is to blame is alone; the rest commits. */
  private async commit(batch: readonly OrderedEvent[]): Promise<void> {
    if (batch.length === 0) return;
    const { dataSource, consumer, room } = this.options;
    let result: BatchResult;
    try {
      result = await inTransaction(dataSource, (tx) => handleBatch(tx, consumer, batch, room.budget()));
    } catch (error) {
      const [first] = batch;
      if (error instanceof DatabaseUnavailableError) {
        const later = retryBlameless(outageRetryMs, error.message);
        batch.forEach(({ settle }) => settle(later));
      } else if (first && batch.length === 1) {
        await this.refuse(first, error);
      } else {
        const middle = Math.ceil(batch.length / 2);
        await this.commit(batch.slice(0, middle));
        await this.commit(batch.slice(middle));
      }
      return;
    }
    room.parked += result.parked;
    for (const [event, fate] of result.fates) this.settle(event, fate);
    for (const key of result.followed) this.followed.add(key);
    this.options.onHandled(result.handled);
  }

  /** What failed is recorded or parked in its turn, so that the transport is never held up. */
  private async refuse(event: OrderedEvent, error: unknown): Promise<void> {
    const refusal = triage(error, event.attempt, event.handler?.failurePolicy);
    // It is not the handler that failed this time: the transport, or the row, keeps the event.
    if (event.refusal || refusal.kind === 'done') return event.settle(retry(1_000, errorText(error)));
    await this.commit([{ ...event, handler: undefined, refusal }]);
  }

  private settle({ message, refusal, settle }: OrderedEvent, fate: Fate): void {
    const { room, consumer } = this.options;
    if (fate === 'refused') {
      room.refused += 1;
      return settle(retryBlameless(room.retryMs, `too many messages of ${consumer} are parked already`));
    }
    if (refusal && (fate === 'held' || fate === 'discarded')) report(message, refusal, this.options);
    settle(doneAs[effectOf(fate, refusal)]);
  }
}

function effectOf(fate: Exclude<Fate, 'refused'>, refusal: OrderedEvent['refusal']): Effect {
  if (fate === 'held') return refusal?.kind === 'retry' ? 'retried' : 'deadLettered';
  return ({ handled: 'handled', duplicate: 'duplicates', waiting: 'parked', discarded: 'discarded' } as const)[fate];
}

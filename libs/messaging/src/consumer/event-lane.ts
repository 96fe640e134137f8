import type { DataSource } from 'typeorm';
import { inTransaction, type Transaction } from '../database/transaction.js';
import { DatabaseBusyError, outageOf } from '../database/unavailable.js';
import { failpoint } from '../failpoint.js';
import { holdParked, readyOfKeys, type ParkedMessage } from '../inbox/parked.js';
import type { ParkingRoom } from '../inbox/parking-room.js';
import { SuspectList } from '../inbox/suspect-list.js';
import { errorText } from '../logger.js';
import type { Watchdog } from '../monitor/watchdog.js';
import { StandStills, type StandStill } from '../stand-stills.js';
import { deadLetter, doneAs, retryBlameless, type Effect, type Outcome } from '../outcome.js';
import { handleBatch, type BatchResult, type Fate, type NewKeys, type OrderedEvent } from './event-batch.js';
import type { Predecessors } from './predecessors.js';
import { condemned } from './suspects.js';
import { outageRetryMs, report, triage, type TriageContext } from './triage.js';
import type { Turns } from './turns.js';

/** So many suspects share a transaction: if the process dies, no more of them have to be handled one by one. */
const mostSuspects = 200;

export interface EventLaneOptions extends TriageContext {
  readonly dataSource: DataSource;
  /** Most events in one transaction. */
  readonly maxBatch: number;
  readonly room: ParkingRoom;
  readonly newKeys?: NewKeys | undefined;
  /** Of all lanes of the process. */
  readonly turns: Turns;
  readonly predecessors: Predecessors;
  readonly watchdog: Watchdog;
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
  private readonly suspects: SuspectList;
  /** Parked events that cannot even be held. */
  private readonly unheld = new StandStills();

  constructor(private readonly options: EventLaneOptions) {
    this.suspects = new SuspectList(options.dataSource, options.consumer);
  }

  /** Parked events whose outcome could not be recorded, for so long. */
  standStills(ms: number): StandStill[] {
    return this.unheld.longerThan(ms);
  }

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
      await this.handle([...parked, ...this.waiting.splice(0, this.options.maxBatch - parked.length)]);
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

  private async handle(batch: readonly OrderedEvent[]): Promise<void> {
    const { turns, predecessors } = this.options;
    try {
      if (!batch.some(isSuspect) || !(await predecessors.mayHaveDied())) return await this.commit(batch);
    } catch (error) {
      return this.giveBack(batch, error);
    }
    for (let from = 0; from < batch.length; from += mostSuspects) {
      await turns.take(() => this.examine(batch.slice(from, from + mostSuspects)));
    }
  }

  /**
   * Finds the event that kills its process, as `Suspects` does among single messages: the start of suspects is recorded, and
   * each of those that were started like that and have come to no end gets a transaction of its own, after all others.
   */
  private async examine(batch: readonly OrderedEvent[]): Promise<void> {
    const { consumer, logger } = this.options;
    let starts: ReadonlyMap<string, number>;
    try {
      starts = await this.suspects.mark(batch.filter(isSuspect).map(idOf));
    } catch (error) {
      return this.giveBack(batch, error);
    }
    const accused = new Set(batch.filter((event) => starts.has(idOf(event))).map(keyOf));
    await this.commit(
      batch.filter((event) => !accused.has(keyOf(event))),
      true,
    );
    if (accused.size === 0) return;
    const what = 'events were in hand when their process died, and are handled one by one';
    logger.warn(what, { consumer, events: starts.size, keys: accused.size });
    for (const event of batch) {
      if (accused.has(keyOf(event))) await this.examineAlone(event, starts.get(idOf(event)));
    }
  }

  private async examineAlone(event: OrderedEvent, starts: number | undefined): Promise<void> {
    // It stays listed until it is redriven: the process may die before it is parked, and the count must not start again.
    const verdict = starts === undefined ? undefined : condemned(event.message, starts);
    if (verdict) return this.commit([{ ...event, handler: undefined, refusal: verdict }]);
    try {
      if (starts !== undefined) await this.suspects.count(idOf(event));
    } catch (error) {
      return this.giveBack([event], error);
    }
    await this.commit([event], true);
  }

  private giveBack(batch: readonly OrderedEvent[], error: unknown): void {
    const later = retryBlameless(outageRetryMs, errorText(error));
    batch.forEach(({ settle }) => settle(later));
  }

  /**
   * A batch that fails is halved, in order, until what is to blame is alone; the rest commits. Suspects that are `listed` are
   * cleared as soon as their handlers have ended: a process that dies in the middle of their commit has not died of them.
   */
  private async commit(batch: readonly OrderedEvent[], listed = false): Promise<void> {
    if (batch.length === 0) return;
    const { dataSource, consumer, room, newKeys } = this.options;
    let result: BatchResult;
    try {
      for (const { message, handler } of batch) if (handler) failpoint('message.handling', message.id);
      const handleAll = async (tx: Transaction) => {
        const handled = await handleBatch(tx, consumer, batch, room.budget(), newKeys);
        if (listed) await this.clear(batch);
        return handled;
      };
      result = await this.options.watchdog.during(consumer, () => inTransaction(dataSource, handleAll));
    } catch (error) {
      const [first] = batch;
      const outage = outageOf(error);
      if (outage && (batch.length === 1 || !(outage instanceof DatabaseBusyError))) {
        // The process lives: what failed with the database has not killed it.
        if (listed) await this.clear(batch).catch(() => undefined);
        this.giveBack(batch, outage);
      } else if (first && batch.length === 1) {
        await this.refuse(first, error, listed);
      } else {
        const middle = Math.ceil(batch.length / 2);
        await this.commit(batch.slice(0, middle), listed);
        await this.commit(batch.slice(middle), listed);
      }
      return;
    }
    room.parked += result.parked;
    for (const [event, fate] of result.fates) this.settle(event, fate);
    for (const key of result.followed) this.followed.add(key);
    this.options.onHandled(result.handled);
  }

  /** What failed is recorded or parked in its turn, so that the transport is never held up. */
  private async refuse(event: OrderedEvent, error: unknown, listed: boolean): Promise<void> {
    const refusal = triage(error, event.attempt, event.handler?.failurePolicy);
    // It is not the handler that failed this time, and would be no other the next time: whoever gave the event has to keep it.
    if (event.refusal || refusal.kind === 'done') {
      event.settle(this.unrecordable(event, error));
      if (event.fromParking) await this.holdParked(event);
      return;
    }
    await this.commit([{ ...event, handler: undefined, refusal }], listed);
  }

  private unrecordable({ message, refusal }: OrderedEvent, error: unknown): Outcome {
    const { consumer, logger } = this.options;
    const { id, subject: key, sequence } = message;
    const what =
      'what became of an event could not be recorded where its successors wait for it: it is a dead letter by itself';
    logger.error(`${what}, and once it is cleared up they have to be let go on with skipGap`, {
      ...{ consumer, id, key, sequence, error: errorText(error) },
    });
    const first = refusal && refusal.kind !== 'retry' ? `; it was to be kept because of: ${refusal.reason}` : '';
    return deadLetter(`it could not be recorded in its place: ${errorText(error)}${first}`, 'Unrecordable');
  }

  private async holdParked({ message }: OrderedEvent): Promise<void> {
    const { dataSource, consumer, logger } = this.options;
    const place = this.placeOf(message);
    try {
      await holdParked(dataSource, consumer, message);
      this.unheld.end(place);
    } catch (error) {
      const why = errorText(error);
      this.unheld.begin(place, `what became of it cannot be recorded: ${why}`);
      logger.error('a parked event could not be held; it is tried again', { consumer, place, error: why });
    }
  }

  private placeOf({ subject, sequence }: OrderedEvent['message']): string {
    return `${this.options.consumer}, event ${sequence} of ${subject}`;
  }

  private clear(batch: readonly OrderedEvent[]): Promise<void> {
    return this.suspects.clear(batch.filter(({ suspect }) => suspect).map(idOf));
  }

  private settle({ message, refusal, settle, fromParking }: OrderedEvent, fate: Fate): void {
    const { room, consumer } = this.options;
    if (fromParking) this.unheld.end(this.placeOf(message));
    if (fate === 'refused') {
      room.refused += 1;
      return settle(retryBlameless(room.retryMs, `too many messages of ${consumer} are parked already`));
    }
    if (refusal && (fate === 'held' || fate === 'discarded')) report(message, refusal, this.options);
    settle(doneAs[effectOf(fate, refusal)]);
  }
}

const idOf = ({ message }: OrderedEvent): string => message.id;
const keyOf = ({ message }: OrderedEvent): string => message.subject;

const isSuspect = ({ suspect, handler }: OrderedEvent): boolean => (suspect ?? false) && handler !== undefined;

function effectOf(fate: Exclude<Fate, 'refused'>, refusal: OrderedEvent['refusal']): Effect {
  if (fate === 'held') return refusal?.kind === 'retry' ? 'retried' : 'deadLettered';
  return ({ handled: 'handled', duplicate: 'duplicates', waiting: 'parked', discarded: 'discarded' } as const)[fate];
}

import type { Transaction } from '../database/transaction.js';
import type { PayloadOf } from '../definition.js';
import { keptOf, recordDiscarded, type Discarded } from '../inbox/discarded.js';
import { recordSkipped, type Skipped } from '../inbox/gaps.js';
import { park, unpark, type Parking } from '../inbox/parked.js';
import type { ParkingBudget } from '../inbox/parking-room.js';
import {
  advanceKeys,
  keysAsTheyAre,
  setKeys,
  type KeyState,
  type Run,
  type SequencedMessage,
} from '../inbox/sequence.js';
import type { Message } from '../message.js';
import type { Outcome } from '../outcome.js';
import { waves } from '../waves.js';
import { Attempt } from './attempt.js';
import type { ReceivedMessage } from './dispatcher.js';
import type { HandlerOptions, ResolvedHandlerOptions } from './handler-options.js';

export type ReceivedEvent<Of = unknown> = WithoutAttempt<PayloadOf<Of>>;
type WithoutAttempt<Data> = Omit<ReceivedMessage<Data>, 'signal' | 'fence'>;

/** Runs in the transaction that advances the sequences of the events' keys; the signal aborts at the soft time limit. */
export type OrderedHandler<Data> = (
  events: readonly ReceivedEvent<Data>[],
  tx: Transaction,
  signal?: AbortSignal,
) => Promise<void>;

export interface OrderedHandlerOptions extends HandlerOptions {
  /** The handler takes several events of a key at once, in their order; otherwise it gets at most one of each key. */
  readonly manyPerKey?: boolean;
}

export interface RegisteredHandler extends ResolvedHandlerOptions, Pick<OrderedHandlerOptions, 'manyPerKey'> {
  readonly handle: OrderedHandler<unknown>;
}

/** An event that has come, from the transport or from where it was parked, and what to do when it is its turn. */
export interface OrderedEvent extends ReceivedEvent {
  readonly message: SequencedMessage;
  readonly fromParking: boolean;
  /** A process may have died of it. */
  readonly suspect?: boolean;
  /** None when nobody handles the type, or when it is not to be handled. */
  readonly handler: RegisteredHandler | undefined;
  /** Known before it is handled: it is to be discarded, or parked for another attempt or for a human. */
  readonly refusal: Exclude<Outcome, { kind: 'done' }> | undefined;
  /** Its personal data has been blanked, because it is to be discarded. */
  readonly blanked?: boolean;
  /** Tells the transport. */
  readonly settle: (outcome: Outcome) => void;
}

/** A sequenced event as it may be kept when it is discarded: without the personal data that `redact` blanks. */
export function discardable(
  event: SequencedMessage,
  redact: (message: Message) => Message,
): Pick<OrderedEvent, 'message' | 'blanked'> {
  const { message, redrivable } = keptOf(event, '', redact);
  return { message: message as SequencedMessage, blanked: !redrivable };
}

/** What became of an event in a transaction. */
export type Fate =
  | 'handled'
  /** Took effect before, or is a copy of one that is parked. */
  | 'duplicate'
  /** Its predecessor is missing. */
  | 'waiting'
  /** Parked because it failed. */
  | 'held'
  /** It would have to be parked, and there is no room: the transport keeps it, and so its partition stands still in time. */
  | 'refused'
  | 'discarded';

export interface BatchResult {
  readonly fates: ReadonlyMap<OrderedEvent, Fate>;
  /** Keys that have moved, with their last sequence. */
  readonly handled: ReadonlyMap<string, number>;
  /** Keys whose next event is parked. */
  readonly followed: readonly string[];
  /** Rows parked less rows taken out. */
  readonly parked: number;
}

/** Where a key begins whose first event that comes is not its first. */
export type NewKeys =
  /** With its first event: until that comes the others wait. */
  | 'from-first'
  /** With the one that comes first; those before it are recorded in `inbox_skipped`. */
  | 'from-first-seen';

const beforeFirstSeen = 'older than what the topic still holds: the consumer begins with the first event that it sees';

const unlimited = (): ParkingBudget => ({ perKey: Infinity, left: Infinity });

/** Events of many keys in one transaction: a fixed number of statements beside those of the handlers, however many events. */
export async function handleBatch(
  tx: Transaction,
  consumer: string,
  events: readonly OrderedEvent[],
  budget = unlimited(),
  newKeys: NewKeys = 'from-first',
): Promise<BatchResult> {
  const byKey = Map.groupBy(events, ({ message }) => message.subject);
  const runs = [...byKey].map(([key, ofKey]) => runOf(key, ofKey));
  const advanced = await advanceKeys(tx, consumer, runs);
  const fates = new Map<OrderedEvent, Fate>();
  const turns = [...byKey].map(([key, ofKey]) => new Turn(key, ofKey, fates, budget, newKeys));
  const others: Turn[] = [];
  for (const turn of turns) {
    if (advanced.has(turn.key)) turn.takeAll();
    else others.push(turn);
  }
  const parked = others.length > 0 ? await sortOut(tx, consumer, others) : 0;
  await handle(tx, turns);
  const moved = turns.filter((turn) => turn.moved);
  return {
    fates,
    handled: new Map(moved.map(({ key, handled }) => [key, handled])),
    followed: moved.filter(({ parkedTo, handled }) => parkedTo > handled).map(({ key }) => key),
    parked,
  };
}

async function handle(tx: Transaction, turns: readonly Turn[]): Promise<void> {
  const handlers = new Map<string, RegisteredHandler>();
  for (const { toHandle } of turns) {
    for (const { message, handler } of toHandle) if (handler) handlers.set(message.type, handler);
  }
  const mayRepeat = (type: string) => handlers.get(type)?.manyPerKey ?? false;
  const sequences = turns.map(({ toHandle }) => toHandle);
  for (const [type, events] of waves(sequences, ({ message }) => message.type, mayRepeat)) {
    const handler = handlers.get(type);
    if (handler) await handleInTime(type, handler, events, tx);
  }
}

async function handleInTime(
  type: string,
  { handle, timeLimit }: RegisteredHandler,
  events: readonly OrderedEvent[],
  tx: Transaction,
): Promise<void> {
  if (!timeLimit) return handle(events, tx);
  // What ends late has no fence because it needs none: the transaction that it was given is over by then.
  await new Attempt().run(
    `the handler of ${type}`,
    timeLimit,
    ({ signal }) => handle(events, tx, signal),
    () => undefined,
  );
}

/** Where all is well the key advances over all of its events at once. */
function runOf(key: string, events: readonly OrderedEvent[]): Run {
  const first = events[0]?.message.sequence ?? 0;
  const last = events.at(-1)?.message.sequence ?? 0;
  const well = events.every(
    ({ message, refusal, fromParking }, index) => message.sequence === first + index && !refusal && !fromParking,
  );
  return { key, first: well ? first : 0, last };
}

/**
 * The keys in which something is amiss: copies, gaps, refusals, and whatever comes from where it was parked.
 * @returns by how many rows more are parked
 */
async function sortOut(tx: Transaction, consumer: string, turns: readonly Turn[]): Promise<number> {
  const messages = turns.flatMap(({ events }) => events.map(({ message }) => message));
  const states = await keysAsTheyAre(tx, consumer, messages);
  for (const turn of turns) turn.takeInOrder(states.get(turn.key));
  await setKeys(tx, consumer, turns);
  const skipped = turns.flatMap((turn) => turn.skipped);
  await recordSkipped(tx, consumer, skipped, beforeFirstSeen);
  const parkings = turns.flatMap((turn) => turn.parkings);
  await park(tx, consumer, parkings);
  const discarded = turns.flatMap((turn) => turn.discarded);
  await recordDiscarded(tx, consumer, 'sequenced-event', discarded);
  const gone = await unpark(
    tx,
    consumer,
    turns.filter(({ moved, mayBeParked }) => moved && mayBeParked),
  );
  return turns.reduce((sum, { added }) => sum + added, -gone);
}

/** The events of one key in a batch. */
class Turn {
  readonly parkings: Parking[] = [];
  readonly discarded: Discarded[] = [];
  readonly skipped: Skipped[] = [];
  /** What takes effect, in order. */
  toHandle: readonly OrderedEvent[] = [];
  handled = 0;
  parkedTo = 0;
  moved = false;
  mayBeParked = false;
  /** Rows parked that were not there before. */
  added = 0;
  private waiting = 0;

  constructor(
    readonly key: string,
    readonly events: readonly OrderedEvent[],
    private readonly fates: Map<OrderedEvent, Fate>,
    private readonly budget: ParkingBudget,
    private readonly newKeys: NewKeys,
  ) {}

  takeAll(): void {
    for (const event of this.events) this.fates.set(event, 'handled');
    this.toHandle = this.events.filter(({ handler }) => handler);
    this.handled = this.events.at(-1)?.message.sequence ?? 0;
    this.moved = true;
  }

  takeInOrder(state: KeyState = { handled: 0, parkedTo: 0, waiting: 0, isNew: true, parked: new Map() }): void {
    this.handled = state.handled;
    this.parkedTo = state.parkedTo;
    this.waiting = state.waiting;
    this.mayBeParked = state.parkedTo > state.handled;
    const inOrder = [...this.events].sort((one, other) => one.message.sequence - other.message.sequence);
    const first = inOrder[0]?.message.sequence ?? 1;
    if (state.isNew && this.newKeys === 'from-first-seen' && first > 1) {
      this.skipped.push({ key: this.key, from: 1, to: first - 1 });
      this.handled = first - 1;
    }
    for (const event of inOrder) this.fates.set(event, this.take(event, state.parked));
    this.toHandle = inOrder.filter((event) => event.handler && this.fates.get(event) === 'handled');
    this.moved = this.handled > state.handled;
  }

  private take(event: OrderedEvent, parked: Map<number, number>): Fate {
    const { message, refusal, fromParking, attempt } = event;
    const attempts = parked.get(message.sequence);
    if (message.sequence <= this.handled) return 'duplicate';
    // A second copy of what is parked leaves it to its own time, or to its human; so does one that another process has tried.
    if (attempts !== undefined && !(fromParking && attempts === attempt - 1)) return 'duplicate';
    if (message.sequence > this.handled + 1) return this.park(event, parked, 0, 'waiting');
    if (refusal && refusal.kind !== 'discard') return this.park(event, parked, attempt, 'held');
    this.handled = message.sequence;
    if (!refusal) return 'handled';
    this.discarded.push({ message, reason: refusal.reason, redrivable: event.blanked !== true });
    return 'discarded';
  }

  private park({ message, refusal }: OrderedEvent, parked: Map<number, number>, attempts: number, fate: Fate): Fate {
    const dueInMs = fate === 'held' && refusal?.kind === 'retry' ? refusal.afterMs : 0;
    if (!parked.has(message.sequence)) {
      if (this.budget.left <= 0 || (fate === 'waiting' && this.waiting >= this.budget.perKey)) return 'refused';
      this.budget.left -= 1;
      this.waiting += 1;
      this.added += 1;
    }
    const {
      reason: failure,
      errorType,
      stack = null,
    } = fate === 'held' && refusal?.kind === 'dead-letter' ? refusal : { reason: null, errorType: null };
    this.parkings.push({ message, attempts, dueInMs, failure, errorType, stack });
    parked.set(message.sequence, attempts);
    this.parkedTo = Math.max(this.parkedTo, message.sequence);
    return fate;
  }
}

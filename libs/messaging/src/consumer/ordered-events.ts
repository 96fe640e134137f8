import type { z } from 'zod';
import { DeadLetterTable } from '../dead-letters/dead-letter-table.js';
import type { MessageDefinition } from '../definition.js';
import type { Flow } from '../flow/flow-gate.js';
import { withPoolPressure } from '../flow/pool-pressure.js';
import { outcomeOfOpening } from '../failure-policy.js';
import { countOpenGaps, escalateGaps, skipGap } from '../inbox/gaps.js';
import { readyKeys } from '../inbox/parked.js';
import { ParkingRoom, type ParkingLimits } from '../inbox/parking-room.js';
import { isSequenced, type SequencedMessage } from '../inbox/sequence.js';
import type { Message } from '../message.js';
import { errorText } from '../logger.js';
import { deadLetter, type Outcome } from '../outcome.js';
import type { StandStill } from '../stand-stills.js';
import type { Consumer, Delivery } from '../transport/delivery.js';
import {
  discardable,
  type NewKeys,
  type OrderedEvent,
  type OrderedHandler,
  type OrderedHandlerOptions,
  type RegisteredHandler,
} from './event-batch.js';
import { EventLane } from './event-lane.js';
import type { EventConsumerOptions } from './event-reactor.js';
import { namedIn, resolveOptions } from './handler-options.js';
import { Handlers } from './handlers.js';
import { LateEvents } from './late-events.js';
import { Predecessors } from './predecessors.js';
import { SequenceWaiters, type WaitOptions } from './sequence-waiters.js';
import { Turns } from './turns.js';
import { Watchdog } from '../monitor/watchdog.js';

export interface OrderedEventsOptions extends Omit<EventConsumerOptions, 'concurrency'>, ParkingLimits {
  /** Told of each batch. */
  readonly watchdog?: Watchdog;
  /** Most events in one transaction; twice as many may be in memory. Default 4 000. */
  readonly maxBatch?: number;
  /** What becomes of a type without a handler: it passes without effect (default), or holds its key for a human. */
  readonly unknownTypes?: 'pass' | 'hold';
  /**
   * Where a key begins that this consumer does not know. Default: with its first event, without which the later ones wait; an old
   * topic may no longer hold it. `from-first-seen` is for a consumer that can do without the older ones: what comes after a later
   * event of its key, as it may right after a raise of partitions, counts as older, too.
   */
  readonly newKeys?: NewKeys;
  /** How often parked messages whose time has come are looked for. Default 1 000 ms. */
  readonly sweepMs?: number;
  /**
   * A predecessor that is missing for so long is a problem: listed by `openGaps`, counted in {@link OrderedEvents.metrics}, and
   * logged as an error at once, then at intervals that grow from this to a day. Default 60 000 ms.
   */
  readonly gapDeadlineMs?: number;
}

/**
 * Handles the events of each key exactly once and in sequence; events that are there at the same time share a transaction.
 * A failed event stays parked in the database, for its next attempt or for a human, and its successors wait behind it; other
 * keys go on. Past the bounds of what may be parked the transport keeps what would have to be, and reads on as far as its own
 * bounds let it (ADR 9).
 */
export class OrderedEvents {
  private readonly handlers: Handlers<RegisteredHandler>;
  private readonly ignored = new Set<string>();
  private readonly predecessors: Predecessors;
  private readonly lane: EventLane;
  private readonly waiters: SequenceWaiters;
  private readonly maxBatch: number;
  private consumer: Consumer | undefined;
  private sweeper: NodeJS.Timeout | undefined;
  private sweeping: Promise<void> | undefined;
  private readonly room: ParkingRoom;
  private readonly deadLetters: DeadLetterTable;
  private readonly late: LateEvents;
  private gaps = 0;
  private gapsLookedAt = 0;
  private readonly fullness = { lookedAt: 0, reportedAt: -Infinity, refused: 0 };

  constructor(private readonly options: OrderedEventsOptions) {
    const { maxBatch = 4_000 } = options;
    this.maxBatch = maxBatch;
    this.handlers = new Handlers(options.consumer);
    this.waiters = new SequenceWaiters({ ...options, pollMs: 100 });
    // What can be handled again is parked: only what has no place in the order comes here.
    this.deadLetters = new DeadLetterTable({ ...options, kind: 'event', redrivable: false });
    this.late = new LateEvents(options);
    this.room = new ParkingRoom(options.dataSource, options.consumer, options);
    this.predecessors = new Predecessors(options);
    this.lane = new EventLane({
      turns: new Turns(),
      watchdog: new Watchdog(),
      ...options,
      predecessors: this.predecessors,
      room: this.room,
      maxBatch,
      open: ({ message, attempts }) =>
        this.open(message, { attempt: attempts + 1, fromParking: true, suspect: true }, (outcome) =>
          options.monitor.count(message.type, outcome),
        ),
      onHandled: (handled) => this.waiters.tell(handled),
    });
  }

  /** `handler` gets the events of the type that share a transaction, at most one of each key unless it takes more. */
  on<Schema extends z.ZodType>(
    definition: MessageDefinition & { readonly schema: Schema },
    handler: OrderedHandler<z.output<Schema>>,
    options: OrderedHandlerOptions = {},
  ): this {
    const resolved = { ...options, ...resolveOptions(options, this.options) };
    this.handlers.register(definition, { ...resolved, handle: handler as OrderedHandler<unknown> }, options);
    this.late.on(definition, handler, options);
    const { topic, consumer, logger, monitor } = this.options;
    monitor.expect(definition.type);
    logger.info('binding', { topic, group: consumer, event: definition.type, order: 'sequence', ...namedIn(options) });
    return this;
  }

  /** Events that pass without effect, retired ones among them; for `unknownTypes: 'hold'`. */
  ignore(definition: Pick<MessageDefinition, 'type'>): this {
    this.ignored.add(definition.type);
    return this;
  }

  async start(): Promise<void> {
    const { topic, consumer, transport, longestOutageMs, dataSource, sweepMs, monitor } = this.options;
    await Promise.all([this.room.look(), this.predecessors.enter()]);
    // One batch under way and one that gathers meanwhile.
    const concurrency = 2 * this.maxBatch;
    const flow = withPoolPressure(dataSource, this.options.flow);
    this.consumer = await transport.subscribe(
      {
        ...{ topic, group: consumer, concurrency, flow, deadLetters: this.deadLetters.take },
        ...(longestOutageMs === undefined ? {} : { longestOutageMs }),
      },
      monitor.watch((delivery) => this.deliver(delivery)),
    );
    monitor.follow(this.consumer);
    this.late.start();
    this.sweeper = setInterval(() => {
      this.sweeping ??= this.sweep().finally(() => (this.sweeping = undefined));
    }, sweepMs ?? 1_000);
  }

  /** What is in hand and may be; undefined before the start. */
  get flow(): Flow | undefined {
    return this.consumer?.flow;
  }

  /** Without the plain personal data of the types that are handled here. */
  redact(message: Message): Message {
    return this.handlers.redact(message);
  }

  /** What has kept its place for longer than so many milliseconds. */
  standStills(ms: number): StandStill[] {
    const parts = [this.consumer, this.lane, this.deadLetters, this.late];
    return parts.flatMap((part) => part?.standStills(ms) ?? []);
  }

  get attached(): boolean {
    return this.consumer?.attached ?? false;
  }

  get problem(): string | undefined {
    return this.consumer?.problem;
  }

  /** What waits, of all processes of the consumer as far as this one knows. */
  get metrics() {
    return {
      /** Events that wait for a predecessor, for their next attempt or for a human. */
      parked: this.room.parked,
      /** Gaps past their deadline. */
      openGaps: this.gaps,
      /** Events that found no room to be parked since this process started, each time that they came. */
      refused: this.room.refused,
    };
  }

  /**
   * Gives up what is missing of `key` up to the sequence `upTo`; recorded with the reason in `inbox_skipped`.
   * @throws TerminalError when the key has no gap that reaches so far
   */
  async skipGap(key: string, upTo: number, reason: string): Promise<void> {
    const { dataSource, consumer } = this.options;
    await skipGap(dataSource, { consumer, key, upTo, reason });
  }

  /** Waits until the event `sequence` of `key` has taken effect; false when that was not so in time. */
  waitFor(key: string, sequence: number, options: WaitOptions): Promise<boolean> {
    return this.waiters.wait(key, sequence, options);
  }

  /** Stops taking and waits at most `drainMs` for what is in hand; the rest is delivered again. */
  async stop(drainMs?: number): Promise<void> {
    clearInterval(this.sweeper);
    this.deadLetters.stop();
    await Promise.all([this.consumer?.close(drainMs), this.late.stop(drainMs)]);
    await this.sweeping;
    await this.lane.follow([]);
    await this.predecessors.leave();
    this.waiters.stop();
  }

  private deliver(delivery: Delivery): Promise<Outcome> {
    const { message } = delivery;
    return new Promise((resolve) => {
      if (isSequenced(message)) {
        const from = { attempt: 1, fromParking: false, suspect: delivery.redelivered };
        return this.lane.add(this.open(message, from, resolve));
      }
      const what = `${delivery.origin} has no subject or no sequence; events of an ordered topic need both`;
      resolve(deadLetter(what, 'NotSequenced'));
    });
  }

  private open(
    message: SequencedMessage,
    from: Pick<OrderedEvent, 'attempt' | 'fromParking' | 'suspect'>,
    settle: OrderedEvent['settle'],
  ): OrderedEvent {
    const { unknownTypes } = this.options;
    let data = message.data;
    let handler: OrderedEvent['handler'];
    let refusal: OrderedEvent['refusal'];
    const matters = unknownTypes === 'hold' ? !this.ignored.has(message.type) : this.handlers.has(message.type);
    if (matters) {
      try {
        ({ handler, data } = this.handlers.open(message));
      } catch (error) {
        refusal = outcomeOfOpening(error);
      }
    }
    const kept =
      refusal?.kind === 'discard' ? discardable(message, (whole) => this.handlers.redact(whole)) : { message };
    return { ...kept, ...from, settle, data, handler, refusal };
  }

  private async sweep(): Promise<void> {
    const { dataSource, consumer, logger } = this.options;
    try {
      // What other processes have parked is known from the next look at the room on.
      if (this.room.parked > 0) await this.lane.follow(await readyKeys(dataSource, consumer, this.maxBatch));
      await this.lookForGaps();
      await this.lookForRoom();
    } catch (error) {
      const details = { consumer, error: errorText(error) };
      logger.warn('parked events could not be looked through; it is tried again', details);
    }
  }

  private async lookForGaps(): Promise<void> {
    const { dataSource, consumer, logger, gapDeadlineMs = 60_000 } = this.options;
    if (performance.now() - this.gapsLookedAt < gapDeadlineMs / 4) return;
    this.gapsLookedAt = performance.now();
    for (const { key, missingFrom, missingTo, since } of await escalateGaps(dataSource, consumer, gapDeadlineMs, 100)) {
      const missing = { consumer, key, missingFrom, missingTo, since };
      logger.error('events are missing; their successors wait. Publish them again, or skip them with skipGap', missing);
    }
    this.gaps = await countOpenGaps(dataSource, consumer);
  }

  private async lookForRoom(): Promise<void> {
    const { room, fullness } = this;
    const now = performance.now();
    if (now - fullness.lookedAt < 5 * (this.options.sweepMs ?? 1_000)) return;
    fullness.lookedAt = now;
    await room.look();
    if (room.refused === fullness.refused || now - fullness.reportedAt < 60_000) return;
    Object.assign(fullness, { reportedAt: now, refused: room.refused });
    const { consumer, topic, logger } = this.options;
    const what = 'too many events are parked, and the partitions of those that find no room will stand still';
    logger.error(`${what}: close the gaps (openGaps), redrive what failed, or raise maxParked and maxParkedPerKey`, {
      ...{ consumer, topic, parked: room.parked },
    });
  }
}

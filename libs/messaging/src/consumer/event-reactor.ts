import type { DataSource } from 'typeorm';
import type { z } from 'zod';
import { DeadLetterTable } from '../dead-letters/dead-letter-table.js';
import { ScheduledEvents } from '../dead-letters/scheduled-events.js';
import { inTransaction } from '../database/transaction.js';
import type { MessageDefinition } from '../definition.js';
import { recordDiscarded } from '../inbox/discarded.js';
import type { Flow, FlowOptions } from '../flow/flow-gate.js';
import { withPoolPressure } from '../flow/pool-pressure.js';
import type { Logger } from '../logger.js';
import type { Message } from '../message.js';
import type { ConsumerMonitor } from '../monitor/consumer-monitor.js';
import { done, doneAs, type Outcome } from '../outcome.js';
import type { StandStill } from '../stand-stills.js';
import type { Consumer, Delivery } from '../transport/delivery.js';
import type { EventTransport } from '../transport/event-transport.js';
import { Dispatcher, type MessageHandler } from './dispatcher.js';
import { namedIn, type HandlerOptions } from './handler-options.js';
import { Predecessors } from './predecessors.js';
import { Suspects } from './suspects.js';
import { Turns } from './turns.js';

export interface EventConsumerOptions extends HandlerOptions {
  /** Consumer group, and the consumer's name in the inbox. Never rename it: a new name starts from the earliest event. */
  readonly consumer: string;
  readonly topic: string;
  readonly dataSource: DataSource;
  /** How long its inbox knows a message. Default 30 days. */
  readonly inboxRetentionMs?: number;
  readonly transport: EventTransport;
  readonly logger: Logger;
  readonly monitor: ConsumerMonitor;
  readonly concurrency?: number;
  /** How long it may be away, in milliseconds: a topic that keeps its events for less is a problem. Default: any. */
  readonly longestOutageMs?: number;
  /** What bounds the events in hand besides. Default: 32 MiB, and fewer while many wait for a database connection. */
  readonly flow?: FlowOptions;
  /** Of all consumers of the process. Default: its own. */
  readonly turns?: Turns;
}

/** A retry that is further off waits in the database: in memory it would hold back the offset of its partition. */
const storedFromMs = 10_000;

const passed = Promise.resolve(done);

/**
 * Reacts to single events of a topic, in whatever order; other types pass by untouched. The handler admits the event
 * through `admitOnce` in its own transaction.
 */
export class EventReactor {
  private readonly dispatcher: Dispatcher;
  private readonly deadLetters: DeadLetterTable;
  private readonly scheduled: ScheduledEvents;
  private readonly predecessors: Predecessors;
  private readonly suspects: Suspects;
  private consumer: Consumer | undefined;

  constructor(private readonly options: EventConsumerOptions) {
    const { dataSource, consumer } = options;
    this.dispatcher = new Dispatcher({
      ...options,
      discarded: (discarded) =>
        inTransaction(dataSource, async (tx) => void (await recordDiscarded(tx, consumer, 'event', [discarded]))),
    });
    this.predecessors = new Predecessors(options);
    this.suspects = new Suspects({
      ...{ turns: new Turns(), mostTogether: 50, ...options },
      mayHaveDied: () => this.predecessors.mayHaveDied(),
    });
    this.deadLetters = new DeadLetterTable({ ...options, kind: 'event' });
    this.scheduled = new ScheduledEvents({
      ...{ dataSource, consumer, logger: options.logger },
      handler: options.monitor.watch(
        this.suspects.guard(({ message, attempt }) => this.dispatcher.dispatch(message, attempt)),
      ),
    });
  }

  on<Schema extends z.ZodType>(
    definition: MessageDefinition & { readonly schema: Schema },
    handler: MessageHandler<z.output<Schema>>,
    options: HandlerOptions = {},
  ): this {
    this.dispatcher.register(definition, handler, options);
    const { topic, consumer, logger, monitor } = this.options;
    monitor.expect(definition.type);
    logger.info('binding', { topic, group: consumer, event: definition.type, ...namedIn(options) });
    return this;
  }

  async start(): Promise<void> {
    const { topic, consumer, transport, concurrency, longestOutageMs, dataSource, monitor } = this.options;
    const flow = withPoolPressure(dataSource, this.options.flow);
    await this.predecessors.enter();
    const handle = this.suspects.guard((delivery) => this.deliver(delivery));
    this.consumer = await transport.subscribe(
      {
        ...{ topic, group: consumer, flow, deadLetters: this.deadLetters.take },
        ...(concurrency === undefined ? {} : { concurrency }),
        ...(longestOutageMs === undefined ? {} : { longestOutageMs }),
      },
      monitor.watch((delivery) => (this.dispatcher.handles(delivery.message.type) ? handle(delivery) : passed)),
    );
    monitor.follow(this.consumer);
    this.scheduled.start();
  }

  /** What is in hand and may be; undefined before the start. */
  get flow(): Flow | undefined {
    return this.consumer?.flow;
  }

  /** Without the plain personal data of the types that are handled here. */
  redact(message: Message): Message {
    return this.dispatcher.redact(message);
  }

  /** What has kept its place for longer than so many milliseconds. */
  standStills(ms: number): StandStill[] {
    const parts = [this.consumer, this.deadLetters, this.scheduled];
    return parts.flatMap((part) => part?.standStills(ms) ?? []);
  }

  get attached(): boolean {
    return this.consumer?.attached ?? false;
  }

  get problem(): string | undefined {
    return this.consumer?.problem;
  }

  /** Stops taking and waits at most `drainMs` for what is in hand; the rest is delivered again. */
  async stop(drainMs?: number): Promise<void> {
    this.deadLetters.stop();
    await Promise.all([this.consumer?.close(drainMs), this.scheduled.stop(drainMs)]);
    this.dispatcher.abandon();
    await this.suspects.release();
    await this.predecessors.leave();
  }

  private deliver(delivery: Delivery): Promise<Outcome> {
    const { message, attempt } = delivery;
    return this.dispatcher.dispatch(message, attempt).then((outcome) => {
      if (outcome.kind !== 'retry' || outcome.afterMs < storedFromMs) return outcome;
      // The database that cannot take it now is what the transport's own retry is for.
      return this.scheduled.add(delivery, outcome).then(
        () => doneAs.retried,
        () => outcome,
      );
    });
  }
}

import type { BeforeApplicationShutdown, OnApplicationBootstrap } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { CommandConsumer } from './consumer/command-consumer.js';
import { EventReactor } from './consumer/event-reactor.js';
import type { HandlerOptions } from './consumer/handler-options.js';
import { OrderedEvents, type OrderedEventsOptions } from './consumer/ordered-events.js';
import { Turns } from './consumer/turns.js';
import { DeadLetters } from './dead-letters/dead-letters.js';
import {
  defaultDiscardedRetentionMs,
  defaultInboxRetentionMs,
  admittedRetentionMs,
  RetentionJob,
  type RetainedTable,
} from './inbox/retention.js';
import type { FlowOptions } from './flow/flow-gate.js';
import type { Logger } from './logger.js';
import type { Message } from './message.js';
import type { ConsumerMonitor } from './monitor/consumer-monitor.js';
import { BacklogSampler } from './monitor/backlog-sampler.js';
import { countedCommands, countedEvents } from './monitor/counted-transports.js';
import { QueueMonitor } from './monitor/queue-monitor.js';
import { Watchdog } from './monitor/watchdog.js';
import { Outbox } from './outbox/outbox.js';
import type { OutboxMarks } from './outbox/outbox-backlog.js';
import { OutboxRelay } from './outbox/outbox-relay.js';
import { checkCommands } from './owned-commands.js';
import { ownedTopics, type TopicOptions } from './owned-topics.js';
import { noSealing, type Sealing } from './sealing.js';
import type { StandStill } from './stand-stills.js';
import { RateLimits } from './rate-limit/rate-limits.js';
import { RateLimiter } from './rate-limit/rate-limiter.js';
import type { CommandTransport } from './transport/command-transport.js';
import type { EventTransport, TopicDeclaration } from './transport/event-transport.js';

/** The handlers of the service get its `failurePolicy` and `timeLimit` where they have none of their own. */
export interface MessagingOptions extends HandlerOptions, TopicOptions {
  /** Names the command queue `<service>.commands`, the topic `<service>.events` and the source of every message. */
  readonly service: string;
  readonly dataSource: DataSource;
  readonly commands: CommandTransport;
  readonly events: EventTransport;
  readonly logger: Logger;
  /** Modules of contracts: each command among them that this service owns must have a handler when it starts. Default: none. */
  readonly contracts?: Readonly<Record<string, unknown>>;
  /** Most commands of the service handled at the same time; those of further queues are not counted. Default 100. */
  readonly prefetch?: number;
  /** What else bounds the messages that each consumer has in hand: bytes, and a load besides that of the database pool. */
  readonly flow?: FlowOptions;
  /** How long the service may be away and lose no event, in milliseconds: a topic that it reads and that keeps less is a problem. Default: any. */
  readonly longestOutageMs?: number;
  /** How long the ids of messages are known, so that a second copy has no effect. Default 30 days. */
  readonly inboxRetentionMs?: number;
  /** How long refused messages are kept. Default 90 days. */
  readonly discardedRetentionMs?: number;
  /** Other tables of the service whose old rows nobody needs. */
  readonly retained?: readonly RetainedTable[];
  /** An event that is larger is not stored, and its command a dead letter. At most Kafka's `message.max.bytes`. Default 1 000 000. */
  readonly mostEventBytes?: number;
  /** Past these {@link OutboxRelay.backlog} is `high`. Default: 50 000 rows, or 60 s. */
  readonly outboxMarks?: OutboxMarks;
  /** An instance that died is succeeded by the relays of the others after so long. Default 8 000 ms. */
  readonly leaseMs?: number;
  /** How long what is in hand may take when the application shuts down, in milliseconds. Default 20 000. */
  readonly drainMs?: number;
  /** Not ready: a consumer that has work in hand (that of {@link ConsumerMonitor.bounded} apart), or a relay that has rows, and finishes none for so long. Default 120 000 ms. */
  readonly stalledMs?: number;
  /**
   * A lane whose batch, or a relay whose step, is under way for so long has hung: {@link Messaging.stuck}. Every wait in them is
   * bounded by far less. Default 300 000 ms.
   */
  readonly stuckMs?: number;
  /** A consumer that gets nothing for so long although the broker holds messages for it is built anew. Default 60 000 ms. */
  readonly silentMs?: number;
  /** How often the database and the brokers are asked what waits, in milliseconds. Default 10 000. */
  readonly sampleMs?: number;
}

interface EventConsumer {
  readonly attached: boolean;
  readonly problem?: string | undefined;
  standStills(ms: number): StandStill[];
  redact(message: Message): Message;
  start(): Promise<void>;
  stop(drainMs?: number): Promise<void>;
}

/** What a library on top of this one adds to a service. */
export interface Extension {
  /** Its tables whose old rows nobody needs. */
  readonly retained?: readonly RetainedTable[];
  /** Topics that the service owns because of it. */
  readonly topics?: readonly Omit<TopicDeclaration, 'partitions'>[];
  /** For the commands of actors; at most one of the extensions has it. */
  readonly sealing?: Sealing;
  /** Before the service declares, takes or sends anything. */
  start?(): Promise<void>;
  /** When nothing is in hand any more. */
  stop?(): Promise<void>;
}

/** A command queue of the service, and what is counted of it. */
export interface CommandQueue {
  readonly commands: CommandConsumer;
  readonly monitor: ConsumerMonitor;
}

/** What keeps a service from its work. */
export interface Problem {
  /** What it is about: a consumer's name, `outbox`, `RabbitMQ`, … */
  readonly part: string;
  /** What is wrong, and what to do. */
  readonly problem: string;
}

/** Everything that a service sends and receives, started and stopped in the right order with the application. */
export class Messaging implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly service: string;
  /** Topic of the service's own events. */
  readonly topic: string;
  readonly dataSource: DataSource;
  readonly logger: Logger;
  readonly monitor = new QueueMonitor();
  /** Sees when work that holds up everything else does not come to an end. */
  readonly watchdog = new Watchdog();
  /** What waits in the inbox and at the brokers, asked now and then. */
  readonly backlog: BacklogSampler;
  readonly outbox: Outbox;
  readonly relay: OutboxRelay;
  /** Limits per command type that are changed at run time. */
  readonly rateLimits: RateLimits;
  /** What no handler could handle: listed, redriven or discarded. */
  readonly deadLetters: DeadLetters;
  /** Register handlers before the application has started. */
  readonly commands: CommandConsumer;
  private readonly extensions: Extension[] = [];
  private retention: RetentionJob | undefined;
  private readonly limiter: RateLimiter;
  /** Of all its queues; the first is {@link commands}. */
  private readonly commandConsumers: CommandConsumer[] = [];
  /** Of what the process may have died of. A long handler of a single message must not hold up those that keep an order. */
  private readonly turns = { single: new Turns(), inSequence: new Turns() };
  private readonly eventConsumers: {
    readonly topic: string;
    readonly name: string;
    readonly consumer: EventConsumer;
  }[] = [];
  /** Deliveries by consumer that had not ended when the service stopped: the broker delivers them again. */
  cutOff: Readonly<Record<string, number>> = {};
  private readonly reporters: (() => readonly Problem[])[] = [];
  private phase: 'starting' | 'running' | 'stopping' = 'starting';
  private stopped: Promise<void> | undefined;

  constructor(private readonly options: MessagingOptions) {
    this.service = options.service;
    this.topic = `${options.service}.events`;
    this.dataSource = options.dataSource;
    this.logger = options.logger;
    this.outbox = new Outbox(options.mostEventBytes);
    this.rateLimits = new RateLimits(options.dataSource);
    this.relay = new OutboxRelay({
      ...options,
      commands: countedCommands(options.commands, this.monitor),
      events: countedEvents(options.events, this.monitor),
      outbox: this.outbox,
      watchdog: this.watchdog,
    });
    this.limiter = new RateLimiter({ ...options, outbox: this.outbox });
    this.commands = this.addQueue(`${options.service}.commands`, options.prefetch, { takesRevocations: true }).commands;
    this.backlog = new BacklogSampler({ ...options, monitor: this.monitor });
    this.deadLetters = new DeadLetters({
      ...options,
      outbox: this.outbox,
      dedupeRetentionMs: options.inboxRetentionMs ?? defaultInboxRetentionMs,
      redact: (message) => this.redact(message),
    });
  }

  /** Single events of a topic, in whatever order. `consumer` is the group's name for ever. */
  reactTo(topic: string, consumer: string): EventReactor {
    return this.add(
      topic,
      consumer,
      new EventReactor({ ...this.eventOptions(topic, consumer), turns: this.turns.single }),
    );
  }

  /** All events of a topic, per key exactly once and in sequence. `consumer` is the group's name for ever. */
  inSequence(
    topic: string,
    consumer: string,
    options: Pick<OrderedEventsOptions, 'unknownTypes' | 'newKeys'> = {},
  ): OrderedEvents {
    return this.add(
      topic,
      consumer,
      new OrderedEvents({ ...this.eventOptions(topic, consumer), turns: this.turns.inSequence, ...options }),
    );
  }

  /** Lets a library take part; before the application has started. */
  extend(extension: Extension): void {
    this.extensions.push(extension);
  }

  /** A further queue of commands, `<service>.<name>`, of which at most `prefetch` are in hand; before the application has started. */
  openQueue(name: string, prefetch: number): CommandQueue {
    return this.addQueue(`${this.service}.${name}`, prefetch);
  }

  /** Everything is declared and has been attached once. */
  get started(): boolean {
    return this.phase !== 'starting';
  }

  /** Why it does not get on with its work; none when it does. */
  problems(): Problem[] {
    if (this.phase === 'starting') return [{ part: this.service, problem: 'it is starting: wait' }];
    if (this.phase === 'stopping') return [{ part: this.service, problem: 'it shuts down: use another instance' }];
    return [...this.detached(), ...this.stalled(), ...this.reporters.flatMap((report) => report())];
  }

  /** Adds what a part of the service tells of itself to {@link problems}; it is asked often, and must not throw. */
  reportProblems(report: () => readonly Problem[]): void {
    this.reporters.push(report);
  }

  /**
   * What only a restart mends: work that everything behind it waits for, and that does not come to an end. None of it is an
   * outage, which ends by itself. For liveness.
   */
  stuck(): Problem[] {
    const { stuckMs = 300_000 } = this.options;
    return [...this.watchdog.longerThan(stuckMs)].map(([part, ms]) => ({
      part,
      problem:
        `its work is under way for ${Math.round(ms / 1_000)} s and holds up everything behind it: restart this process; ` +
        'what is in hand is done again',
    }));
  }

  /** @throws Error when a command has two handlers, one of the service's contracts none, or a topic is not the service's own */
  async onApplicationBootstrap(): Promise<void> {
    checkCommands(this.service, this.options.contracts ?? {}, this.commandConsumers);
    const topics = this.ownedTopics();
    await Promise.all(this.extensions.map(async (extension) => extension.start?.()));
    await Promise.all([
      ...this.commandConsumers.map((consumer) => consumer.declare()),
      this.options.events.declare(topics),
    ]);
    // Until the others know of this instance no handler of it may write. With that it takes its share of the outbox from them:
    // nothing slow may come before it relays that.
    await this.relay.join();
    this.relay.start();
    await this.limiter.start();
    await Promise.all([
      ...this.commandConsumers.map((consumer) => consumer.start()),
      ...this.eventConsumers.map(({ consumer }) => consumer.start()),
    ]);
    this.retention = new RetentionJob(this.dataSource, this.retained, this.logger);
    this.retention.start();
    this.backlog.start();
    if (this.phase === 'starting') this.phase = 'running';
  }

  /** From now on it says that it is not ready, and works on. */
  retire(): void {
    this.phase = 'stopping';
  }

  /** The service shuts down. */
  get stopping(): boolean {
    return this.phase === 'stopping';
  }

  /**
   * Takes nothing new and finishes what is in hand: it commits, then it is acknowledged. What is not over after `drainMs` goes
   * back to its broker. The relay goes on until then; what it has not published stays in the outbox, for another instance or
   * for the next start, and the lease is given up. The transports and the database are the caller's to close, afterwards.
   */
  beforeApplicationShutdown(): Promise<void> {
    this.retire();
    this.stopped ??= this.stop();
    return this.stopped;
  }

  private async stop(): Promise<void> {
    const { drainMs = 20_000 } = this.options;
    this.backlog.stop();
    await Promise.all([
      ...this.commandConsumers.map((consumer) => consumer.stop(drainMs)),
      ...this.eventConsumers.map(({ consumer }) => consumer.stop(drainMs)),
    ]);
    this.cutOff = this.inHand;
    if (Object.keys(this.cutOff).length > 0) {
      this.logger.warn('not finished in time: the broker delivers these again', { drainMs, ...this.cutOff });
    }
    const extensions = this.extensions.map(async (extension) => extension.stop?.());
    await Promise.all([this.limiter.stop(), this.relay.stop(), this.retention?.stop(), ...extensions]);
  }

  /** How the personal data of commands is sealed. */
  get sealing(): Sealing {
    return this.extensions.find(({ sealing }) => sealing)?.sealing ?? noSealing;
  }

  private ownedTopics(): TopicDeclaration[] {
    const more = this.extensions.flatMap(({ topics = [] }) => topics);
    return ownedTopics(this.service, [{ name: this.topic }, ...more], this.options);
  }

  private get retained(): RetainedTable[] {
    const { inboxRetentionMs = defaultInboxRetentionMs, discardedRetentionMs = defaultDiscardedRetentionMs } =
      this.options;
    return [
      { table: 'inbox', column: 'received_at', retentionMs: inboxRetentionMs },
      { table: 'inbox_discarded', column: 'discarded_at', retentionMs: discardedRetentionMs },
      { table: 'inbox_suspect', column: 'since', retentionMs: inboxRetentionMs },
      { table: 'rate_limit_waiting', column: 'admitted_at', retentionMs: admittedRetentionMs },
      ...(this.options.retained ?? []),
      ...this.extensions.flatMap(({ retained = [] }) => retained),
    ];
  }

  /** Deliveries that have no outcome yet, by consumer. */
  get inHand(): Readonly<Record<string, number>> {
    const running = [...this.monitor.byConsumer].map(([name, { inFlight }]) => [name, inFlight] as const);
    return Object.fromEntries(running.filter(([, inFlight]) => inFlight > 0));
  }

  private detached(): Problem[] {
    const { commands, events } = this.options;
    const lost = (part: string): Problem => ({
      part,
      problem: 'the connection is lost and is being rebuilt: check that the broker runs and can be reached',
    });
    const consumers: readonly { name: string; consumer: Pick<EventConsumer, 'attached' | 'problem'> }[] = [
      ...this.commandConsumers.map((consumer) => ({ name: consumer.queue, consumer })),
      ...this.eventConsumers,
    ];
    return [
      ...(commands.connected ? [] : [lost('command broker')]),
      ...(events.connected ? [] : [lost('event broker')]),
      ...consumers.flatMap(({ name, consumer: { attached, problem } }) => {
        if (problem !== undefined) return [{ part: name, problem }];
        return attached ? [] : [{ part: name, problem: 'the consumer is not attached, and is being rebuilt: wait' }];
      }),
    ];
  }

  private stalled(): Problem[] {
    const { stalledMs = 120_000 } = this.options;
    const problems = [...this.monitor.byConsumer]
      .filter(([, { unsettledMs }]) => unsettledMs > stalledMs)
      .map(([name, { inFlight, unsettledMs }]) => ({
        part: name,
        problem:
          `${inFlight} deliveries are in hand and none has ended for ${Math.round(unsettledMs / 1_000)} s: ` +
          'look what their handlers wait for; a restart gives them back to the broker',
      }));
    const consumers = [...this.commandConsumers, ...this.eventConsumers.map(({ consumer }) => consumer)];
    for (const { place, forMs, why } of consumers.flatMap((consumer) => consumer.standStills(stalledMs))) {
      const problem = `it has stood still for ${Math.round(forMs / 1_000)} s (${why}): look for it in the log`;
      problems.push({ part: place, problem });
    }
    for (const { address, forMs, error } of this.relay.problems()) {
      if (forMs <= stalledMs) continue;
      const problem =
        `nothing could be sent to ${address} for ${Math.round(forMs / 1_000)} s, and what is for it waits: look at its broker ` +
        `and at its replicas (${error})`;
      problems.push({ part: 'outbox', problem });
    }
    return problems;
  }

  private redact(message: Message): Message {
    const consumers = [...this.commandConsumers, ...this.eventConsumers.map(({ consumer }) => consumer)];
    return consumers.reduce((kept, consumer) => consumer.redact(kept), message);
  }

  private addQueue(queue: string, prefetch = 100, more: { readonly takesRevocations?: true } = {}): CommandQueue {
    const monitor = this.monitor.consumer(queue);
    const commands = new CommandConsumer({
      ...this.options,
      transport: this.options.commands,
      ...{ queue, prefetch, monitor, outbox: this.outbox, limiter: this.limiter, turns: this.turns.single },
      ...more,
    });
    this.commandConsumers.push(commands);
    return { commands, monitor };
  }

  /** @throws Error for a second consumer of the same name, which would take events or the places of keys from the first */
  private add<T extends EventConsumer>(topic: string, name: string, consumer: T): T {
    const inSequence = consumer instanceof OrderedEvents;
    const first = this.eventConsumers.find(
      (other) =>
        other.name === name && (other.topic === topic || (inSequence && other.consumer instanceof OrderedEvents)),
    );
    if (first) {
      const what = `there are two consumers ${name}, of ${first.topic} and of ${topic}`;
      throw new Error(`${what}: register all handlers with one of them, or give the other a name of its own`);
    }
    this.eventConsumers.push({ topic, name, consumer });
    return consumer;
  }

  private eventOptions(topic: string, consumer: string) {
    const { events: transport, ...options } = this.options;
    const { watchdog } = this;
    return { ...options, topic, consumer, transport, watchdog, monitor: this.monitor.consumer(consumer) };
  }
}

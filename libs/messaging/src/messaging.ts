import type { BeforeApplicationShutdown, OnApplicationBootstrap } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { CommandConsumer } from './consumer/command-consumer.js';
import { EventReactor } from './consumer/event-reactor.js';
import type { HandlerOptions } from './consumer/handler-options.js';
import { OrderedEvents, type OrderedEventsOptions } from './consumer/ordered-events.js';
import {
  checkInboxRetention,
  defaultDiscardedRetentionMs,
  defaultInboxRetentionMs,
  RetentionJob,
  retryHorizonMs,
  type RetainedTable,
} from './inbox/retention.js';
import type { FlowOptions } from './flow/flow-gate.js';
import type { Logger } from './logger.js';
import { newCounters } from './message-counters.js';
import { Outbox } from './outbox/outbox.js';
import type { OutboxMarks } from './outbox/outbox-backlog.js';
import { OutboxRelay } from './outbox/outbox-relay.js';
import { KeyCreated, KeyErased, keyTopic } from './personal/key-messages.js';
import { PersonalData } from './personal/personal-data.js';
import { RateLimits } from './rate-limit/rate-limits.js';
import type { CommandTransport } from './transport/command-transport.js';
import type { EventTransport, TopicDeclaration } from './transport/event-transport.js';

/** The handlers of the service get its `failurePolicy` and `timeLimit` where they have none of their own. */
export interface MessagingOptions extends HandlerOptions {
  /** Names the command queue `<service>.commands`, the topic `<service>.events` and the source of every message. */
  readonly service: string;
  readonly dataSource: DataSource;
  readonly commands: CommandTransport;
  readonly events: EventTransport;
  readonly logger: Logger;
  /** Partitions of the service's topic; it cannot be changed later. */
  readonly partitions: number;
  /** Most commands of the service handled at the same time. Default 100. */
  readonly prefetch?: number;
  /** What else bounds the messages that each consumer has in hand: bytes, and a load besides that of the database pool. */
  readonly flow?: FlowOptions;
  /** Master key of personal data: 32 bytes in base64, the same in all services. Default: none can be sealed or opened. */
  readonly personalDataKey?: string;
  /** How long the ids of messages are known, so that a second copy has no effect. Default 30 days. */
  readonly inboxRetentionMs?: number;
  /** How long refused messages are kept. Default 90 days. */
  readonly discardedRetentionMs?: number;
  /** Other tables of the service whose old rows nobody needs. */
  readonly retained?: readonly RetainedTable[];
  /** Past these {@link OutboxRelay.backlog} is `high`. Default: 50 000 rows, or 60 s. */
  readonly outboxMarks?: OutboxMarks;
}

interface EventConsumer {
  readonly attached: boolean;
  start(): Promise<void>;
  stop(): Promise<void>;
}

/** Everything that a service sends and receives, started and stopped in the right order with the application. */
export class Messaging implements OnApplicationBootstrap, BeforeApplicationShutdown {
  readonly service: string;
  /** Topic of the service's own events. */
  readonly topic: string;
  readonly dataSource: DataSource;
  readonly logger: Logger;
  readonly counters = newCounters();
  readonly outbox = new Outbox();
  readonly relay: OutboxRelay;
  /** Limits per command type that are changed at run time. */
  readonly rateLimits: RateLimits;
  readonly personalData: PersonalData;
  /** Register handlers before the application has started. */
  readonly commands: CommandConsumer;
  private readonly retention: RetentionJob;
  private readonly eventConsumers: EventConsumer[] = [];
  private readonly topics = new Map<string, TopicDeclaration>();

  constructor(private readonly options: MessagingOptions) {
    this.service = options.service;
    this.topic = `${options.service}.events`;
    this.declareTopic({ name: this.topic });
    this.dataSource = options.dataSource;
    this.logger = options.logger;
    this.rateLimits = new RateLimits(options.dataSource);
    const { personalDataKey: masterKey } = options;
    this.personalData = new PersonalData({ ...options, outbox: this.outbox, ...(masterKey ? { masterKey } : {}) });
    if (masterKey) this.declareTopic({ name: keyTopic(this.service), compacted: true });
    this.relay = new OutboxRelay({ ...options, outbox: this.outbox });
    const { inboxRetentionMs = defaultInboxRetentionMs, discardedRetentionMs = defaultDiscardedRetentionMs } = options;
    checkInboxRetention(inboxRetentionMs, retryHorizonMs());
    const retained: RetainedTable[] = [
      { table: 'inbox', column: 'received_at', retentionMs: inboxRetentionMs },
      { table: 'inbox_discarded', column: 'discarded_at', retentionMs: discardedRetentionMs },
      ...(options.retained ?? []),
    ];
    this.retention = new RetentionJob(this.dataSource, retained, this.logger);
    this.commands = new CommandConsumer({
      ...options,
      transport: options.commands,
      outbox: this.outbox,
      counters: this.counters,
    });
  }

  /** Single events of a topic, in whatever order. `consumer` is the group's name for ever. */
  reactTo(topic: string, consumer: string): EventReactor {
    return this.add(new EventReactor(this.eventOptions(topic, consumer)));
  }

  /** All events of a topic, per key exactly once and in sequence. `consumer` is the group's name for ever. */
  inSequence(topic: string, consumer: string, options: Pick<OrderedEventsOptions, 'unknownTypes'> = {}): OrderedEvents {
    return this.add(new OrderedEvents({ ...this.eventOptions(topic, consumer), ...options }));
  }

  /** The keys of another service's subjects come here: what that one has sealed can be opened. */
  followKeys(owner: string): void {
    const topic = keyTopic(owner);
    this.declareTopic({ name: topic, compacted: true });
    this.personalData.follow(owner);
    const { keys } = this.personalData;
    this.reactTo(topic, `${this.service}.personal-keys`)
      .on(KeyCreated, ({ data }) => keys.learnCreated({ owner, ...data }))
      .on(KeyErased, ({ data }) => keys.learnErased({ owner, ...data }));
  }

  /** Every consumer can receive now. */
  get ready(): boolean {
    const { commands, events } = this.options;
    return (
      commands.connected &&
      events.connected &&
      this.commands.attached &&
      this.eventConsumers.every((consumer) => consumer.attached)
    );
  }

  async onApplicationBootstrap(): Promise<void> {
    if (this.personalData.enabled) await this.personalData.keys.check();
    await Promise.all([this.commands.declare(), this.options.events.declare([...this.topics.values()])]);
    await Promise.all([this.commands.start(), ...this.eventConsumers.map((consumer) => consumer.start())]);
    this.relay.start();
    this.retention.start();
  }

  /** Takes nothing new, finishes what is in hand, and only then stops publishing. */
  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all([this.commands.stop(), ...this.eventConsumers.map((consumer) => consumer.stop())]);
    await Promise.all([this.relay.stop(), this.retention.stop()]);
  }

  private add<T extends EventConsumer>(consumer: T): T {
    this.eventConsumers.push(consumer);
    return consumer;
  }

  private declareTopic(topic: Omit<TopicDeclaration, 'partitions'>): void {
    if (!this.topics.has(topic.name)) this.topics.set(topic.name, { ...topic, partitions: this.options.partitions });
  }

  private eventOptions(topic: string, consumer: string) {
    this.declareTopic({ name: topic });
    const { events: transport, ...options } = this.options;
    return { ...options, topic, consumer, transport, counters: this.counters };
  }
}

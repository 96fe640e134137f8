import type { BeforeApplicationShutdown, OnApplicationBootstrap } from '@nestjs/common';
import type { DataSource } from 'typeorm';
import { CommandConsumer } from './consumer/command-consumer.js';
import { EventReactor } from './consumer/event-reactor.js';
import { OrderedEvents, type OrderedEventsOptions } from './consumer/ordered-events.js';
import type { Logger } from './logger.js';
import { newCounters } from './message-counters.js';
import { Outbox } from './outbox/outbox.js';
import { OutboxRelay } from './outbox/outbox-relay.js';
import type { CommandTransport } from './transport/command-transport.js';
import type { EventTransport } from './transport/event-transport.js';

export interface MessagingOptions {
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
  /** Register handlers before the application has started. */
  readonly commands: CommandConsumer;
  private readonly eventConsumers: EventConsumer[] = [];
  private readonly topics = new Set<string>();

  constructor(private readonly options: MessagingOptions) {
    this.service = options.service;
    this.topic = `${options.service}.events`;
    this.topics.add(this.topic);
    this.dataSource = options.dataSource;
    this.logger = options.logger;
    this.relay = new OutboxRelay({ ...options, outbox: this.outbox });
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
    const { events, partitions } = this.options;
    await Promise.all([
      this.commands.declare(),
      events.declare([...this.topics].map((name) => ({ name, partitions }))),
    ]);
    await Promise.all([this.commands.start(), ...this.eventConsumers.map((consumer) => consumer.start())]);
    this.relay.start();
  }

  /** Takes nothing new, finishes what is in hand, and only then stops publishing. */
  async beforeApplicationShutdown(): Promise<void> {
    await Promise.all([this.commands.stop(), ...this.eventConsumers.map((consumer) => consumer.stop())]);
    await this.relay.stop();
  }

  private add<T extends EventConsumer>(consumer: T): T {
    this.eventConsumers.push(consumer);
    return consumer;
  }

  private eventOptions(topic: string, consumer: string) {
    this.topics.add(topic);
    const { dataSource, events, logger } = this.options;
    return { topic, consumer, dataSource, transport: events, logger, counters: this.counters };
  }
}

import type { DataSource } from 'typeorm';
import type { z } from 'zod';
import { inTransaction } from '../database/transaction.js';
import type { MessageDefinition } from '../definition.js';
import type { FailurePolicy } from '../failure-policy.js';
import { recordDiscarded } from '../inbox/discarded.js';
import type { Flow, FlowOptions } from '../flow/flow-gate.js';
import { withPoolPressure } from '../flow/pool-pressure.js';
import type { Logger } from '../logger.js';
import type { MessageCounters } from '../message-counters.js';
import type { Message } from '../message.js';
import type { Outbox } from '../outbox/outbox.js';
import { replyFor } from '../reply.js';
import { commandsExchange, type Binding, type CommandTransport } from '../transport/command-transport.js';
import type { Consumer } from '../transport/delivery.js';
import { Dispatcher, type MessageHandler } from './dispatcher.js';

export interface CommandConsumerOptions {
  readonly service: string;
  readonly dataSource: DataSource;
  readonly outbox: Outbox;
  readonly transport: CommandTransport;
  readonly logger: Logger;
  readonly counters: MessageCounters;
  /** Most commands handled at the same time. Default 100. */
  readonly prefetch?: number;
  /** What bounds them besides. Default: 32 MiB of messages, and fewer while many wait for a database connection. */
  readonly flow?: FlowOptions;
  readonly failurePolicy?: FailurePolicy;
}

/** The commands of a service: one durable queue, bound for every type that has a handler. */
export class CommandConsumer {
  /** `<service>.commands`: the queue, and the consumer's name in the inbox. */
  readonly queue: string;
  private readonly dispatcher: Dispatcher;
  private readonly bindings: Binding[] = [];
  private consumer: Consumer | undefined;

  constructor(private readonly options: CommandConsumerOptions) {
    this.queue = `${options.service}.commands`;
    this.dispatcher = new Dispatcher({
      consumer: this.queue,
      logger: options.logger,
      counters: options.counters,
      ...(options.failurePolicy ? { failurePolicy: options.failurePolicy } : {}),
      discarded: (message, reason) => this.recordDiscarded(message, reason),
    });
  }

  /** `routingKey` is the command's type unless it is given: replies arrive under the address that they were asked for. */
  handle<Schema extends z.ZodType>(
    definition: MessageDefinition & { readonly schema: Schema },
    handler: MessageHandler<z.output<Schema>>,
    routingKey: string = definition.type,
  ): void {
    this.dispatcher.register(definition, handler);
    this.bindings.push({ exchange: commandsExchange, queue: this.queue, routingKey });
    this.options.logger.info('binding', { queue: this.queue, routingKey, command: definition.type });
  }

  /** Declared before anything is consumed or sent, so that no service finds another's queue missing for longer than a start. */
  async declare(): Promise<void> {
    await this.options.transport.declare({
      exchanges: [{ name: commandsExchange, type: 'direct' }],
      queues: [{ name: this.queue }],
      bindings: this.bindings,
    });
  }

  async start(): Promise<void> {
    this.consumer = await this.options.transport.consume(
      this.queue,
      ({ message, attempt }) => this.dispatcher.dispatch(message, attempt),
      { prefetch: this.options.prefetch ?? 100, flow: withPoolPressure(this.options.dataSource, this.options.flow) },
    );
  }

  /** What is in hand and may be; undefined before the start. */
  get flow(): Flow | undefined {
    return this.consumer?.flow;
  }

  get attached(): boolean {
    return this.consumer?.attached ?? false;
  }

  async stop(): Promise<void> {
    await this.consumer?.close();
  }

  /** The refusal is also told to whoever waits for a reply: a workflow must not wait for ever. */
  private recordDiscarded(message: Message, reason: string): Promise<void> {
    const { dataSource, outbox, service } = this.options;
    return inTransaction(dataSource, async (tx) => {
      await recordDiscarded(tx, this.queue, [{ message, reason }]);
      const reply = replyFor(message, { failure: reason }, service);
      if (reply && message.replyTo) {
        await outbox.add(tx, [{ channel: 'command', address: message.replyTo.address, message: reply }]);
      }
    });
  }
}

import { NotConfirmedError, TerminalError } from '../errors.js';
import { silentLogger, type Logger } from '../logger.js';
import type { Message } from '../message.js';
import { encodeAmqp, refuseAddress, type AmqpMessage } from '../rabbitmq/amqp-envelope.js';
import { handling, takingDeadLetters, type OutcomePublisher, type Work } from '../rabbitmq/delivery-outcome.js';
import { deadLetterQueue } from '../rabbitmq/queue-names.js';
import {
  commandsExchange,
  type CommandTransport,
  type ConsumeOptions,
  type SendOptions,
  type Topology,
} from '../transport/command-transport.js';
import type { DeadLetterHandler } from '../transport/dead-letter.js';
import type { Consumer, DeliveryHandler } from '../transport/delivery.js';
import { MemoryCommandBroker } from './memory-command-broker.js';
import { MemoryCommandConsumer } from './memory-command-consumer.js';

export interface MemoryCommandTransportOptions {
  readonly logger?: Logger;
  /** How long a send waits for a broker that is stopped. Default 10 000. */
  readonly sendTimeoutMs?: number;
}

/** A connection to an in-process broker, with the semantics of the RabbitMQ transport. */
export class MemoryCommandTransport implements CommandTransport, OutcomePublisher {
  private readonly consumers = new Set<MemoryCommandConsumer>();
  private readonly logger: Logger;
  private readonly sendTimeoutMs: number;
  private closed = false;

  constructor(
    private readonly broker = new MemoryCommandBroker(),
    { logger = silentLogger, sendTimeoutMs = 10_000 }: MemoryCommandTransportOptions = {},
  ) {
    this.logger = logger;
    this.sendTimeoutMs = sendTimeoutMs;
  }

  get connected(): boolean {
    return this.broker.running && !this.closed;
  }

  async declare(topology: Topology): Promise<void> {
    await this.whenConnected('The topology was not declared');
    this.broker.declare(topology);
  }

  async send(message: Message, options: SendOptions = {}): Promise<void> {
    const { exchange = commandsExchange, routingKey = message.type } = options;
    const encoded = encodeAmqp(message);
    refuseAddress(exchange, routingKey);
    await this.whenConnected(`Message ${message.id} was not sent`);
    await this.whenConfirming(exchange, routingKey);
    this.broker.publish(exchange, routingKey, encoded);
  }

  consume(queue: string, handler: DeliveryHandler, options: ConsumeOptions = {}): Promise<Consumer> {
    return this.attach(queue, handling(handler, this, this.logger), options, true);
  }

  consumeDeadLetters(queue: string, handler: DeadLetterHandler): Promise<Consumer> {
    return this.attach(deadLetterQueue(queue), takingDeadLetters(queue, handler), { prefetch: 500 }, false);
  }

  private async attach(
    queue: string,
    work: Work,
    { prefetch = 100, flow = {} }: ConsumeOptions,
    mayReject: boolean,
  ): Promise<Consumer> {
    await this.whenConnected(`Queue ${queue} was not consumed`);
    if (!Number.isInteger(prefetch) || prefetch < 1) {
      throw new TerminalError(`The prefetch of queue "${queue}" is ${prefetch}; give an integer of 1 or more`);
    }
    const consumer = new MemoryCommandConsumer({
      broker: this.broker,
      ...{ queue, prefetch, flow, work, mayReject, logger: this.logger },
      onClosed: () => this.consumers.delete(consumer),
    });
    this.consumers.add(consumer);
    return consumer;
  }

  async close(): Promise<void> {
    await Promise.all([...this.consumers].map((consumer) => consumer.close()));
    this.closed = true;
  }

  async publishTo(queue: string, message: AmqpMessage): Promise<void> {
    await this.whenConnected('The outcome was not stored');
    await this.whenConfirming('', queue);
    this.broker.publish('', queue, message);
  }

  async publishLater(queue: string, message: AmqpMessage, delayMs: number): Promise<void> {
    await this.whenConnected('The outcome was not stored');
    this.broker.publishLater(queue, message, delayMs);
  }

  private async whenConfirming(exchange: string, routingKey: string): Promise<void> {
    const { silent } = this.broker;
    if (!silent.any) return;
    const queues = this.broker.queuesOf(exchange, routingKey);
    if (await silent.untilHeard(queues, this.sendTimeoutMs)) return;
    throw new NotConfirmedError(
      `Queue ${queues.join(', ')} did not confirm within ${this.sendTimeoutMs} ms: restore it, then send it again`,
    );
  }

  private async whenConnected(consequence: string): Promise<void> {
    if (!this.closed && (this.broker.running || (await this.broker.whenRunning(this.sendTimeoutMs)))) return;
    const problem = this.closed ? 'the transport is closed; open a new one' : 'the broker is stopped; start it';
    throw new NotConfirmedError(`${consequence}: ${problem}, then try again`);
  }
}

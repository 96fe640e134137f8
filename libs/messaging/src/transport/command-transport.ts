import type { FlowOptions } from '../flow/flow-gate.js';
import type { Message } from '../message.js';
import type { DeadLetterHandler } from './dead-letter.js';
import type { Consumer, DeliveryHandler } from './delivery.js';

export type ExchangeType = 'direct' | 'topic' | 'fanout';

export interface ExchangeDeclaration {
  readonly name: string;
  readonly type: ExchangeType;
}

/**
 * A durable queue. Each gets a dead-letter queue `<name>.dead-letter` (our own dead letters, with reason headers, and
 * what the broker itself gives up on, through the broker's dead-letter exchange and routing key) and, when first needed,
 * retry queues `<name>.retry.<delay in ms>` that dead-letter back into it after their fixed TTL.
 */
export interface QueueDeclaration {
  readonly name: string;
}

export interface Binding {
  readonly exchange: string;
  readonly queue: string;
  /** For a topic exchange `*` stands for one word and `#` for any number; a fanout exchange ignores it. */
  readonly routingKey: string;
}

export interface Topology {
  readonly exchanges?: readonly ExchangeDeclaration[];
  readonly queues?: readonly QueueDeclaration[];
  readonly bindings?: readonly Binding[];
}

/** The exchange of the system's commands: direct, the routing key is the command's type. */
export const commandsExchange = 'commands';

export interface SendOptions {
  /** Default {@link commandsExchange}. */
  readonly exchange?: string;
  /** Default: the message's type. */
  readonly routingKey?: string;
}

export interface ConsumeOptions {
  /** Most deliveries handled at the same time; 1 = fair dispatch one by one. Default 100. */
  readonly prefetch?: number;
  /** What bounds the handlers besides: the bytes of their messages, and the load. */
  readonly flow?: FlowOptions;
}

/** Moves commands: durable queues, one consumer of many gets each message. */
export interface CommandTransport {
  /** Declares (idempotently) and remembers for reconnects; rejects when something exists with another shape. */
  declare(topology: Topology): Promise<void>;
  /**
   * Resolves once the broker has confirmed the message as stored in every queue it was routed to.
   * @throws RefusedError when the broker, or the client on its behalf, refuses this message: UnroutableError when no queue is bound
   * @throws NotConfirmedError when it is unknown whether the broker has it; nothing else
   */
  send(message: Message, options?: SendOptions): Promise<void>;
  /** The queue must have been declared. */
  consume(queue: string, handler: DeliveryHandler, options?: ConsumeOptions): Promise<Consumer>;
  /** Takes what lies in the dead-letter queue of this queue, which must have been declared. */
  consumeDeadLetters(queue: string, handler: DeadLetterHandler): Promise<Consumer>;
  /** Connected and able to send. */
  readonly connected: boolean;
  /** Longest time, in milliseconds, after which it is known what became of a message, or that nobody knows. Default: any. */
  readonly longestSendMs?: number | undefined;
  close(): Promise<void>;
}

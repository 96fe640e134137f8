import {
  ForbiddenDestinationError,
  InvalidMessageError,
  MessageTooLargeError,
  NotConfirmedError,
  UnroutableError,
  type RefusedError,
} from '../errors.js';
import type { AmqpMessage } from './amqp-envelope.js';

/** A message and where it is to go. */
export interface Addressed {
  readonly exchange: string;
  readonly routingKey: string;
  readonly message: AmqpMessage;
}

/** The broker has closed the channel because of one message, and says in `message` why. */
export interface ChannelException extends Error {
  /** AMQP's reply code. */
  readonly code: number;
}

type Refusal = new (message: string, options?: ErrorOptions) => RefusedError;

/** The reply codes with which a broker answers a single message; any other is about the channel or the broker. */
const refusals: ReadonlyMap<number, Refusal> = new Map<number, Refusal>([
  [311, MessageTooLargeError],
  [403, ForbiddenDestinationError],
  [404, UnroutableError],
  [406, InvalidMessageError],
]);

export const blamesMessage = (error: unknown): error is ChannelException =>
  refusals.has((error as Partial<ChannelException>).code ?? 0);

export function refusedBy(exception: ChannelException, { exchange, routingKey, message }: Addressed): RefusedError {
  const tooLarge = /message size|content too large/i.test(exception.message);
  const ErrorType = tooLarge ? MessageTooLargeError : (refusals.get(exception.code) ?? InvalidMessageError);
  return new ErrorType(
    `RabbitMQ refuses message ${nameOf(message)} for exchange "${exchange}" with key "${routingKey}" (${exception.message}); ` +
      `correct ${tooLarge ? 'the size of the message, or raise max_message_size' : 'what it names'}, then send it again`,
    { cause: exception },
  );
}

/** amqplib encodes a message before it writes any of it, so nothing of this one has left. */
export const unencodable = ({ message }: Addressed, error: unknown): InvalidMessageError =>
  new InvalidMessageError(
    `Message ${nameOf(message)} cannot be written as AMQP (${(error as Error).message}); ids, types, sources and addresses take up to 255 bytes, all headers together 64 KiB`,
    { cause: error },
  );

export const unroutable = ({ exchange, routingKey, message }: Addressed): UnroutableError =>
  new UnroutableError(
    `No queue is bound to exchange "${exchange}" with key "${routingKey}" (message ${nameOf(message)}); deploy its consumer or correct the key`,
  );

export const notConfirmed = ({ message }: Addressed, problem: string, remedy: string): NotConfirmedError =>
  new NotConfirmedError(
    `It is unknown whether RabbitMQ has message ${nameOf(message)}: ${problem}. Its id makes a duplicate harmless: ${remedy}`,
  );

const nameOf = ({ properties }: AmqpMessage): string =>
  `${properties.type ?? ''} ${properties.messageId ?? ''}`.trim().slice(0, 300);

import { NotConfirmedError, RefusedError, TerminalError, TransientError } from '../errors.js';
import { errorText, type Logger } from '../logger.js';
import type { Message } from '../message.js';
import { nextAttempt, retry, type Outcome } from '../outcome.js';
import { undecodedAs, type DeadLetterHandler } from '../transport/dead-letter.js';
import type { DeliveryHandler } from '../transport/delivery.js';
import {
  asAttempt,
  asDeadLetter,
  asWrappedDeadLetter,
  decodeAmqp,
  encodeAmqp,
  type AmqpMessage,
} from './amqp-envelope.js';
import { readDeadLetter } from './dead-letter-message.js';
import { deadLetterQueue } from './queue-names.js';

export interface RawDelivery {
  readonly queue: string;
  readonly raw: AmqpMessage;
  readonly redelivered: boolean;
}

interface HandledDelivery extends RawDelivery {
  /** None when the bytes are no message: that is never tried again. */
  readonly message?: Message;
  readonly outcome: Outcome;
  readonly attempt: number;
}

/**
 * What a consumer does with a delivery; once it resolves the delivery may be acknowledged. `isLost` tells that the broker
 * delivers it again anyway.
 */
export type Work = (delivery: RawDelivery, isLost: () => boolean) => Promise<void>;

export const handling =
  (handler: DeliveryHandler, publisher: OutcomePublisher, logger: Logger): Work =>
  async (delivery, isLost) => {
    const handled = await handleDelivery(delivery, handler, logger);
    if (!isLost()) await carryOut(handled, publisher);
  };

/** `queue` is the one whose dead letters they are. */
export const takingDeadLetters =
  (queue: string, handler: DeadLetterHandler): Work =>
  ({ raw }) =>
    handler(readDeadLetter(raw, queue));

/** Calls the handler unless the bytes are no message; never rejects. */
async function handleDelivery(
  delivery: RawDelivery,
  handler: DeliveryHandler,
  logger: Logger,
): Promise<HandledDelivery> {
  const { queue, raw, redelivered } = delivery;
  let decoded;
  try {
    decoded = decodeAmqp(raw);
  } catch (error) {
    const outcome = undecodedAs(error);
    const { reason, errorType } = outcome;
    logger.error('a delivery cannot be decoded and becomes a dead letter', { queue, reason, errorType });
    return { ...delivery, attempt: 1, outcome };
  }
  try {
    const { message, attempt } = decoded;
    const outcome = await handler({ message, attempt, redelivered, origin: queue });
    return { queue, raw, redelivered, message, attempt, outcome };
  } catch (error) {
    const reason = `the handler of ${queue} threw instead of returning an outcome: ${errorText(error)}`;
    logger.error('defect: map errors to an outcome in the handler', { queue, id: decoded.message.id, reason });
    return { ...delivery, ...decoded, outcome: retry(1000, reason) };
  }
}

export interface OutcomePublisher {
  /** Resolves once the queue has the message. */
  publishTo(queue: string, message: AmqpMessage): Promise<void>;
  /** Resolves once the message is stored; it enters the queue after the delay. */
  publishLater(queue: string, message: AmqpMessage, delayMs: number): Promise<void>;
}

/** Resolves once everything that the outcome asks for is stored, so that the delivery may be acknowledged. */
async function carryOut(handled: HandledDelivery, publisher: OutcomePublisher): Promise<void> {
  const { queue, raw, message, outcome, attempt } = handled;
  if (outcome.kind === 'retry') {
    const next = nextAttempt(outcome, attempt);
    // The copy goes to the back with its attempt counted by us: a requeue would come straight back to the front.
    const publish = (copy: AmqpMessage): Promise<void> =>
      outcome.afterMs > 0 ? publisher.publishLater(queue, copy, outcome.afterMs) : publisher.publishTo(queue, copy);
    await publishOr(
      () => publish(asAttempt(raw, next)),
      () => publish(asAttempt(message ? encodeAmqp(message) : raw, next)),
    );
  } else if (outcome.kind === 'dead-letter') {
    const publish = (letter: AmqpMessage): Promise<void> => publisher.publishTo(deadLetterQueue(queue), letter);
    await publishOr(
      () => publish(asDeadLetter(raw, outcome, { queue, attempt })),
      () => publish(asWrappedDeadLetter(raw, outcome, { queue, attempt })),
    );
  }
}

/** What others have put into headers may not be writable again: then a form without them is published. */
async function publishOr(asItIs: () => Promise<void>, otherwise: () => Promise<void>): Promise<void> {
  try {
    await asItIs();
  } catch (error) {
    if (isOfBroker(error)) throw error;
    await otherwise();
  }
}

const brokerErrors = [NotConfirmedError, TransientError, TerminalError];

/** The broker or its set-up is to blame, not the message. */
export const isOfBroker = (error: unknown): boolean =>
  error instanceof RefusedError ? error.blames !== 'message' : brokerErrors.some((Type) => error instanceof Type);

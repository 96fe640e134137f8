import { UndecodableError } from '../errors.js';
import { errorText, type Logger } from '../logger.js';
import { deadLetter, nextAttempt, retry, type Outcome } from '../outcome.js';
import type { DeadLetterHandler } from '../transport/dead-letter.js';
import type { DeliveryHandler } from '../transport/delivery.js';
import { asAttempt, asDeadLetter, decodeAmqp, type AmqpMessage } from './amqp-envelope.js';
import { readDeadLetter } from './dead-letter-message.js';
import { deadLetterQueue } from './queue-names.js';

export interface RawDelivery {
  readonly queue: string;
  readonly raw: AmqpMessage;
  readonly redelivered: boolean;
}

interface HandledDelivery extends RawDelivery {
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
    const reason = (error as Error).message;
    logger.error('a delivery cannot be decoded and becomes a dead letter', { queue, reason });
    return { ...delivery, attempt: 1, outcome: deadLetter(reason, UndecodableError.name) };
  }
  try {
    const { message, attempt } = decoded;
    const outcome = await handler({ message, attempt, redelivered, origin: queue });
    return { queue, raw, redelivered, attempt, outcome };
  } catch (error) {
    const reason = `the handler of ${queue} threw instead of returning an outcome: ${errorText(error)}`;
    logger.error('defect: map errors to an outcome in the handler', { queue, id: decoded.message.id, reason });
    return { ...delivery, attempt: decoded.attempt, outcome: retry(1000, reason) };
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
  const { queue, raw, outcome, attempt } = handled;
  if (outcome.kind === 'retry') {
    // The copy goes to the back with its attempt counted by us: a requeue would come straight back to the front.
    const copy = asAttempt(raw, nextAttempt(outcome, attempt));
    await (outcome.afterMs > 0
      ? publisher.publishLater(queue, copy, outcome.afterMs)
      : publisher.publishTo(queue, copy));
  } else if (outcome.kind === 'dead-letter') {
    await publisher.publishTo(deadLetterQueue(queue), asDeadLetter(raw, outcome, { queue, attempt }));
  }
}

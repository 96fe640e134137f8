import { decodeCloudEvent } from '../kafka/cloud-event.js';
import { errorText, type Logger } from '../logger.js';
import { longSleep } from '../long-timer.js';
import type { Message } from '../message.js';
import { nextAttempt, retry, type Outcome } from '../outcome.js';
import { shortened } from '../storable.js';
import { longestReason, undecodedAs, type DeadLetterDelivery, type DeadLetterHandler } from './dead-letter.js';
import type { Delivery, DeliveryHandler } from './delivery.js';
import type { StoredRecord } from './event-record.js';
import type { HandlerSlots } from './handler-slots.js';

export interface SettleContext {
  readonly topic: string;
  readonly group: string;
  readonly handler: DeliveryHandler;
  /** Resolves once the dead letter is safe. */
  readonly keepDeadLetter: DeadLetterHandler;
  readonly slots: HandlerSlots;
  readonly logger: Logger;
}

type DeadLetter = Extract<Outcome, { kind: 'dead-letter' }>;

/**
 * Carries one record to its end: calls the handler until the outcome is final and writes the dead letter if it is one.
 * The caller has taken a slot; it is given back here, and not kept while a retry waits for its time.
 * `redelivered` is passed on to it. `ended` is told false when `abandoned` was aborted first: whoever owns the partition next starts over.
 */
export function settleRecord(
  record: StoredRecord,
  context: SettleContext,
  redelivered: boolean,
  abandoned: AbortSignal,
  ended: (settled: boolean) => void,
): void {
  const message = tryDecode(record);
  if ('kind' in message) {
    const outcome = message;
    void keepThenRelease(letterOf(record, undefined, outcome, 0, context.topic), context, abandoned).then(ended);
    return;
  }
  // Nearly every record ends here, after one promise; the functions for the others would make some more.
  void callHandler(new RecordDelivery(message, record, context.topic, redelivered), context).then((outcome) => {
    if (outcome.kind === 'retry' || outcome.kind === 'dead-letter') {
      void carryOn(record, message, redelivered, outcome, context, abandoned).then(ended);
    } else {
      context.slots.release();
      ended(true);
    }
  });
}

class RecordDelivery implements Delivery {
  constructor(
    readonly message: Message,
    private readonly record: StoredRecord,
    private readonly topic: string,
    readonly redelivered: boolean,
    readonly attempt = 1,
  ) {}

  get origin(): string {
    return originOf(this.record, this.topic);
  }
}

export const originOf = ({ partition, offset }: Pick<StoredRecord, 'partition' | 'offset'>, topic: string): string =>
  `${topic}[${partition}]@${offset}`;

async function carryOn(
  record: StoredRecord,
  message: Message,
  redelivered: boolean,
  first: Outcome,
  context: SettleContext,
  abandoned: AbortSignal,
): Promise<boolean> {
  let outcome = first;
  let retries = 0;
  for (let attempt = 1; ;) {
    if (outcome.kind === 'dead-letter') {
      return keepThenRelease(letterOf(record, message, outcome, attempt, context.topic), context, abandoned);
    }
    context.slots.release();
    if (outcome.kind !== 'retry') return true;
    attempt = nextAttempt(outcome, attempt);

    const delivery = new RecordDelivery(message, record, context.topic, redelivered, attempt);
    retries += 1;
    // The first ones are told by whoever decided so; what goes on and on is told here.
    const level = retries % 10 === 0 ? 'warn' : 'debug';
    context.logger[level](`${delivery.origin} will be retried: ${outcome.reason}`, {
      ...{ attempt, retries, afterMs: outcome.afterMs },
    });
    await longSleep(outcome.afterMs, abandoned);
    if (abandoned.aborted) return false;
    await context.slots.take();
    if (abandoned.aborted) {
      context.slots.release();
      return false;
    }
    outcome = await callHandler(delivery, context);
  }
}

function tryDecode(record: StoredRecord): Message | DeadLetter {
  try {
    return decodeCloudEvent(record);
  } catch (error) {
    return undecodedAs(error);
  }
}

function callHandler(delivery: Delivery, { handler, logger }: SettleContext): Promise<Outcome> {
  const defect = (error: unknown): Outcome => {
    logger.error('a delivery handler threw; it has to resolve to an outcome, see outcomeOf()', {
      origin: delivery.origin,
      attempt: delivery.attempt,
      error: errorText(error),
    });
    return retry(1000, errorText(error));
  };
  try {
    return handler(delivery).catch(defect);
  } catch (error) {
    return Promise.resolve(defect(error));
  }
}

function letterOf(
  record: StoredRecord,
  message: Message | undefined,
  outcome: DeadLetter,
  attempts: number,
  topic: string,
): DeadLetterDelivery {
  const { key, value: content, headers } = record;
  return {
    ...(message ? { message } : {}),
    reason: shortened(outcome.reason, longestReason),
    errorType: outcome.errorType,
    stack: outcome.stack,
    origin: originOf(record, topic),
    attempts,
    time: new Date().toISOString(),
    raw: { key, content, headers },
  };
}

/** The offset may only be committed after the dead letter is safe, so this does not give up while the partition is ours. */
async function keepThenRelease(
  letter: DeadLetterDelivery,
  { topic, group, slots, keepDeadLetter, logger }: SettleContext,
  abandoned: AbortSignal,
): Promise<boolean> {
  const { origin, reason, attempts } = letter;
  try {
    while (!abandoned.aborted) {
      try {
        await keepDeadLetter(letter);
        logger.warn(`${origin} went to the dead letters of ${group}: ${reason}`, { topic, attempts });
        return true;
      } catch (error) {
        logger.error(`could not keep the dead letter of ${origin}, trying again`, { error: errorText(error) });
        await longSleep(1000, abandoned);
      }
    }
    return false;
  } finally {
    slots.release();
  }
}

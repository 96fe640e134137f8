import { outageOf } from '../database/unavailable.js';
import { outcomeOf, retriesExhausted, type FailurePolicy } from '../failure-policy.js';
import type { Logger } from '../logger.js';
import type { Message } from '../message.js';
import { retryBlameless, type Outcome } from '../outcome.js';

export interface TriageContext {
  /** Named in logs. */
  readonly consumer: string;
  readonly logger: Logger;
}

/** An outage of the own database lasts as long as it lasts: tried again without end and without using up attempts. */
export const outageRetryMs = 2_000;

/** What becomes of a message whose handler threw `error` at its `attempt`-th attempt (from 1). */
export function triage(error: unknown, attempt: number, policy: FailurePolicy | undefined): Outcome {
  const outage = outageOf(error);
  if (outage) return retryBlameless(outageRetryMs, outage.message);
  return outcomeOf(error, attempt, policy);
}

/** Logs what did not simply succeed. */
export function report(message: Message, outcome: Outcome, { logger, consumer }: TriageContext): void {
  if (outcome.kind === 'done') return;
  const details = { consumer, id: message.id, type: message.type, reason: outcome.reason };
  if (outcome.kind === 'retry') {
    logger.warn('a message will be tried again', { ...details, afterMs: outcome.afterMs });
  } else if (outcome.kind === 'discard') {
    logger.warn('a message was refused and recorded', details);
  } else {
    const { errorType, stack } = outcome;
    const failure = { ...details, ...(stack === undefined ? {} : { stack }) };
    if (errorType === retriesExhausted) logger.error('a message is escalated: no retry has helped', failure);
    else logger.error('a message needs a human', { ...failure, errorType });
  }
}

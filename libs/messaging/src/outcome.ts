import { storableText } from './storable.js';

/** What a delivery has led to, for metrics. */
export type Effect =
  /** Took effect. */
  | 'handled'
  /** Had taken effect before: acknowledged without effect. */
  | 'duplicates'
  /** Came before its predecessor and was stored. */
  | 'parked'
  | 'retried'
  | 'discarded'
  | 'deadLettered';

/** What became of a delivery. Handlers never touch channels or offsets: the transport carries the outcome out. */
export type Outcome =
  /** Handled (or stored, or a duplicate of something handled): acknowledge. `effect` says which. Default: handled. */
  | { readonly kind: 'done'; readonly effect?: Effect }
  /**
   * Deliver again after `afterMs` milliseconds (0 = at once), with the attempt count raised by one unless the message is
   * not to blame (`blameless`).
   */
  | { readonly kind: 'retry'; readonly afterMs: number; readonly reason: string; readonly blameless?: true }
  /** Keep it, with the reason, where a human finds it. */
  | {
      readonly kind: 'dead-letter';
      readonly reason: string;
      readonly errorType: string;
      /** Of the error that the handler threw. */
      readonly stack?: string | undefined;
    }
  /** Acknowledge without effect; whoever returns it has recorded the reason. */
  | { readonly kind: 'discard'; readonly reason: string };

export const done: Outcome = { kind: 'done' };
export const doneAs: { readonly [Of in Effect]: Outcome } = {
  handled: done,
  duplicates: { kind: 'done', effect: 'duplicates' },
  parked: { kind: 'done', effect: 'parked' },
  retried: { kind: 'done', effect: 'retried' },
  discarded: { kind: 'done', effect: 'discarded' },
  deadLettered: { kind: 'done', effect: 'deadLettered' },
};
export const retry = (afterMs: number, reason: string) =>
  ({ kind: 'retry', afterMs, reason: storableText(reason) }) as const satisfies Outcome;
export const retryBlameless = (afterMs: number, reason: string): Outcome => ({
  ...retry(afterMs, reason),
  blameless: true,
});
/** The attempt that a retried delivery comes with. */
export const nextAttempt = (outcome: Extract<Outcome, { kind: 'retry' }>, attempt: number): number =>
  outcome.blameless ? attempt : attempt + 1;
export const deadLetter = (reason: string, errorType = 'Error', stack?: string) =>
  ({
    ...{ kind: 'dead-letter', reason: storableText(reason), errorType: storableText(errorType) },
    ...(stack === undefined ? {} : { stack: storableText(stack) }),
  }) as const satisfies Outcome;
export const discard = (reason: string) =>
  ({ kind: 'discard', reason: storableText(reason) }) as const satisfies Outcome;

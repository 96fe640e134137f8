import type { RecordPosition } from './transport/record-position.js';

/** What became of one message of a publication. Of a refused or unconfirmed one, the error. */
export type PublishResult = RecordPosition | NotConfirmedError | RefusedError;

interface PublishErrorOptions extends ErrorOptions {
  readonly results?: readonly PublishResult[];
}

/** The broker did not answer as it should: in time, at all, or with a yes. Says nothing about the message; whether it is stored is unknown: send again. */
export class NotConfirmedError extends Error {
  override readonly name = 'NotConfirmedError';
  /** Of a publication of several messages: what became of each, in their order. Undefined: the error holds for all of them. */
  readonly results?: readonly PublishResult[];

  constructor(message: string, options: PublishErrorOptions = {}) {
    super(message, options);
    if (options.results) this.results = options.results;
  }
}

/**
 * The broker, or the client on its behalf, refuses this message: it is not stored, and sending it again changes nothing
 * until somebody has put right what `blames` names.
 */
export class RefusedError extends Error {
  override readonly name: string = 'RefusedError';
  /** `message`: no destination would take it as it is. `destination`: another message to the same place would be refused as well. */
  readonly blames: 'message' | 'destination' = 'message';
  /** As in {@link NotConfirmedError}. */
  readonly results?: readonly PublishResult[];

  constructor(message: string, options: PublishErrorOptions = {}) {
    super(message, options);
    if (options.results) this.results = options.results;
  }
}

/** There is no such queue, exchange or topic, or nothing is bound: the sender or the deployment is wrong. */
export class UnroutableError extends RefusedError {
  override readonly name = 'UnroutableError';
  override readonly blames = 'destination';
}

/** This client may not write there. */
export class ForbiddenDestinationError extends RefusedError {
  override readonly name = 'ForbiddenDestinationError';
  override readonly blames = 'destination';
}

/** The message is larger than the broker, the topic or a setting allows. */
export class MessageTooLargeError extends RefusedError {
  override readonly name = 'MessageTooLargeError';
}

/** A field is missing or cannot be written in the broker's protocol, the data is not JSON, or the broker finds the record invalid. */
export class InvalidMessageError extends RefusedError {
  override readonly name = 'InvalidMessageError';
}

/** What became of each of `count` messages whose publication was rejected. An error of any other kind says nothing about them. */
export function publishResults(error: unknown, count: number): readonly PublishResult[] {
  const published = error instanceof NotConfirmedError || error instanceof RefusedError;
  const one = published ? error : new NotConfirmedError(`the publication failed: ${String(error)}`, { cause: error });
  return one.results ?? Array.from({ length: count }, () => one);
}

/**
 * The positions, where all are stored.
 * @throws RefusedError the first one, with what became of each
 * @throws NotConfirmedError where none is refused
 */
export function positionsOf(results: readonly PublishResult[]): RecordPosition[] {
  const failures = results.filter((result) => result instanceof Error);
  const first = failures.find((failure) => failure instanceof RefusedError) ?? failures[0];
  if (!first) return results as RecordPosition[];
  if (results.length === 1) throw first;
  const ErrorType = first.constructor as new (message: string, options: PublishErrorOptions) => Error;
  const more = failures.length > 1 ? ` (and ${failures.length - 1} more of ${results.length} failed)` : '';
  throw new ErrorType(`${first.message}${more}`, { cause: first.cause, results });
}

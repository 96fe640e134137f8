import { ValidationError } from './errors.js';
import { errorText, stackOf } from './logger.js';
import { deadLetter, discard, retry, type Outcome } from './outcome.js';

export interface Backoff {
  /** Delay before the first retry. Default 1000. */
  readonly baseMs?: number;
  /** Growth from one retry to the next. Default 2. */
  readonly factor?: number;
  /** No delay is longer. Default 60 000. */
  readonly maxMs?: number;
  /** 0 to 1: the part of each delay that is random, so that messages which failed together do not return together. Default 0.2. */
  readonly jitter?: number;
}

/** Refused for good, worth another try, or in need of a human. */
export type FailureClass = 'validation' | 'transient' | 'terminal';

export interface FailurePolicy {
  /** Retries after the first attempt; 0 = none. Default 3. */
  readonly maxRetries?: number;
  readonly backoff?: Backoff;
  /** Knows better than the general rules what an error of the handler means; `undefined` leaves it to them. It must not throw. */
  readonly classify?: (error: unknown) => FailureClass | undefined;
}

/**
 * `errorType` of an escalation: a dead letter whose failure was transient but outlasted every retry. Nothing is wrong with the
 * message; redrive it when what it needs is back.
 */
export const retriesExhausted = 'RetriesExhausted';

/**
 * The failure triage of a handler: what becomes of a delivery whose handler threw `error` at its `attempt`-th attempt
 * (from 1). A transient failure is retried with exponential backoff and then given to a human, anything else goes to a human
 * at once. No error of a handler says that the message is invalid, whatever its name is: only opening the message can tell
 * ({@link outcomeOfOpening}), or `classify`.
 */
export function outcomeOf(error: unknown, attempt: number, policy: FailurePolicy = {}): Outcome {
  const { maxRetries = 3, backoff = {} } = policy;
  const reason = errorText(error);
  const failure = policy.classify?.(error) ?? classOf(error);
  if (failure === 'validation') return discard(reason);
  if (failure === 'terminal') return deadLetter(reason, nameOf(error), stackOf(error));
  if (attempt <= maxRetries) return retry(backoffDelay(attempt, backoff), reason);
  return deadLetter(`still failing after ${attempt} attempts: ${reason}`, retriesExhausted, stackOf(error));
}

/**
 * What becomes of a message that could not be opened: its handler was not called. One that does not fit its contract is
 * discarded; a type or version that is unknown here, or a defect of an upcaster or a schema, needs a human.
 */
export function outcomeOfOpening(error: unknown): Exclude<Outcome, { kind: 'done' | 'retry' }> {
  const reason = errorText(error);
  return error instanceof ValidationError ? discard(reason) : deadLetter(reason, nameOf(error), stackOf(error));
}

const classOf = (error: unknown): FailureClass => (isTransient(error) ? 'transient' : 'terminal');

/** Milliseconds to wait before the `n`-th retry (from 1). */
export function backoffDelay(n: number, backoff: Backoff = {}): number {
  const { baseMs = 1000, factor = 2, maxMs = 60_000, jitter = 0.2 } = backoff;
  const full = Math.min(maxMs, baseMs * factor ** (n - 1));
  return Math.round(full * (1 - jitter * Math.random()));
}

/** Milliseconds that the retries of a policy take at most, without the attempts themselves. */
export function longestRetryMs({ maxRetries = 3, backoff = {} }: FailurePolicy = {}): number {
  const delays = Array.from({ length: maxRetries }, (_, n) => backoffDelay(n + 1, { ...backoff, jitter: 0 }));
  return delays.reduce((total, delay) => total + delay, 0);
}

/** True when the same work may succeed later: time limits, broken connections, locks, a server that restarts. */
export function isTransient(error: unknown): boolean {
  return causesOf(error).some(
    (cause) =>
      transientNames.has(nameOf(cause)) || isTransientCode(cause['code']) || isLostConnection(cause['message']),
  );
}

// By name and not by class: DOMException (AbortSignal.timeout), rxjs and others have a TimeoutError of their own.
const transientNames = new Set(['TransientError', 'TimeoutError', 'NotConfirmedError']);

const connectionCodes = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'ECONNABORTED',
  'ETIMEDOUT',
  'EPIPE',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
]);

/** SQLSTATE of lost connections, serialisation failures, deadlocks, lack of resources, shutdown and locks not available. */
const transientSqlState = /^(08...|40001|40P01|53...|57P0[123]|55P03)$/;

function isTransientCode(code: unknown): boolean {
  return typeof code === 'string' && (connectionCodes.has(code) || transientSqlState.test(code));
}

/** What `pg` throws without a code when the server goes away under a query or while connecting. */
function isLostConnection(message: unknown): boolean {
  return (
    typeof message === 'string' &&
    /^(Connection terminated|Client has encountered a connection error|timeout exceeded when trying to connect)/.test(
      message,
    )
  );
}

type Fields = Record<string, unknown>;

/** The error itself and everything it wraps: `cause`, TypeORM's `driverError`, the members of an AggregateError. */
function causesOf(error: unknown, seen = new Set<unknown>()): Fields[] {
  if (typeof error !== 'object' || error === null || seen.has(error)) return [];
  seen.add(error);
  const fields = error as Fields;
  const members = Array.isArray(fields['errors']) ? (fields['errors'] as unknown[]) : [];
  return [fields, ...[fields['cause'], fields['driverError'], ...members].flatMap((cause) => causesOf(cause, seen))];
}

function nameOf(error: unknown): string {
  const name = typeof error === 'object' && error !== null ? (error as Fields)['name'] : undefined;
  return typeof name === 'string' && name !== '' ? name : 'Error';
}

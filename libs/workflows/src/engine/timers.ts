import type { Backoff } from '../definition/definition.js';
import { durationMs } from '../definition/duration.js';
import type { Request } from './workflow.state.js';

/** What a timer is for. Its id says it, so that nothing has to be kept about timers that are no longer of interest. */
export type Timer =
  | {
      readonly kind: 'retry' | 'timeout';
      readonly purpose: Request['purpose'];
      readonly path: string;
      readonly attempt: number;
    }
  | { readonly kind: 'sleep' | 'deadline'; readonly path: string }
  /** Begins a node that did not fit in one transaction. */
  | { readonly kind: 'enter'; readonly path: string }
  /** Goes on with the revocations in a node that did not fit in one transaction; the request that is next. */
  | { readonly kind: 'revoke' | 'terminate'; readonly path: string; readonly next: string }
  /** Goes on with an event for many nodes that did not fit in one transaction; so many have not received it. */
  | { readonly kind: 'hand-out'; readonly arrival: number; readonly left: number }
  /** Goes on with the members of groups, and the compensations, that did not fit in one transaction. */
  | { readonly kind: 'part'; readonly number: number }
  /** The next tasks may be requested that share a rate limit. */
  | { readonly kind: 'limit'; readonly number: number; readonly limit: string };

/** `timeout/0.1/run/2`, `sleep/0.3`, `part/7`, `limit/1/email.send 100/h` */
export function timerIdOf(timer: Timer): string {
  switch (timer.kind) {
    case 'retry':
    case 'timeout':
      return [timer.kind, timer.path, timer.purpose, timer.attempt].join('/');
    case 'sleep':
    case 'deadline':
    case 'enter':
      return [timer.kind, timer.path].join('/');
    case 'revoke':
    case 'terminate':
      return [timer.kind, timer.path, timer.next].join('/');
    case 'hand-out':
      return [timer.kind, timer.arrival, timer.left].join('/');
    case 'part':
      return [timer.kind, timer.number].join('/');
    case 'limit':
      return [timer.kind, timer.number, timer.limit].join('/');
  }
}

/** undefined for what is no id of a timer. */
export function timerOf(timerId: string): Timer | undefined {
  const [, kind, path, purpose, attempt] =
    /^(retry|timeout)\/([\d.]+)\/(run|compensate)\/(\d+)$|^(sleep|deadline|enter)\/([\d.]+)$|^(revoke|terminate)\/([\d.]+)\/([\da-f-]{36})$|^(hand-out)\/(\d+)\/(\d+)$|^(part)\/(\d+)$|^(limit)\/(\d+)\/(.+)$/
      .exec(timerId)
      ?.filter((part) => part !== undefined) ?? [];
  switch (kind) {
    case 'retry':
    case 'timeout':
      return { kind, path: path as string, purpose: purpose as Request['purpose'], attempt: Number(attempt) };
    case 'sleep':
    case 'deadline':
    case 'enter':
      return { kind, path: path as string };
    case 'revoke':
    case 'terminate':
      return { kind, path: path as string, next: purpose as string };
    case 'hand-out':
      return { kind, arrival: Number(path), left: Number(purpose) };
    case 'part':
      return { kind, number: Number(path) };
    case 'limit':
      return { kind, number: Number(path), limit: purpose as string };
    default:
      return undefined;
  }
}

/** How long to wait after this attempt (1 for the first) has failed, in milliseconds. */
export function backoffMs(backoff: Backoff | undefined, attempt: number): number {
  if (!backoff) return 0;
  const delay = durationMs(backoff.first) * backoff.factor ** (attempt - 1);
  return Math.round(Math.min(delay, backoff.max === undefined ? Number.MAX_SAFE_INTEGER : durationMs(backoff.max)));
}

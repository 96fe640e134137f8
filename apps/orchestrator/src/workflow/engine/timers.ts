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
  /** Goes on with the members of groups that did not fit in one transaction. */
  | { readonly kind: 'fill'; readonly number: number };

/** `timeout/0.1/run/2`, `sleep/0.3`, `fill/7` */
export function timerIdOf(timer: Timer): string {
  switch (timer.kind) {
    case 'retry':
    case 'timeout':
      return [timer.kind, timer.path, timer.purpose, timer.attempt].join('/');
    case 'sleep':
    case 'deadline':
      return [timer.kind, timer.path].join('/');
    case 'fill':
      return [timer.kind, timer.number].join('/');
  }
}

/** undefined for what is no id of a timer. */
export function timerOf(timerId: string): Timer | undefined {
  const [, kind, path, purpose, attempt] =
    /^(retry|timeout)\/([\d.]+)\/(run|compensate)\/(\d+)$|^(sleep|deadline)\/([\d.]+)$|^(fill)\/(\d+)$/
      .exec(timerId)
      ?.filter((part) => part !== undefined) ?? [];
  switch (kind) {
    case 'retry':
    case 'timeout':
      return { kind, path: path as string, purpose: purpose as Request['purpose'], attempt: Number(attempt) };
    case 'sleep':
    case 'deadline':
      return { kind, path: path as string };
    case 'fill':
      return { kind, number: Number(path) };
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

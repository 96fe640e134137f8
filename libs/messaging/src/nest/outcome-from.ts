import { TerminalError } from '../errors.js';
import type { Outcome } from '../outcome.js';

const kinds: ReadonlySet<unknown> = new Set<Outcome['kind']>(['done', 'retry', 'dead-letter', 'discard']);

/**
 * What a method has returned, with its interceptors.
 * @throws TerminalError when that is something else than an outcome or nothing
 */
export function outcomeFrom(result: unknown, place: string): Outcome | undefined {
  if (result === undefined) return undefined;
  if (typeof result === 'object' && result !== null && 'kind' in result && kinds.has(result.kind)) {
    return result as Outcome;
  }
  throw new TerminalError(
    `${place}, or an interceptor around it, returned a value that is no Outcome; return nothing, or done, retry(…), ` +
      'deadLetter(…) or discard(…)',
  );
}

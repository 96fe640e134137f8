import { maskSealed } from '@starter/messaging';
import {
  concat,
  distinctUntilKeyChanged,
  finalize,
  fromEvent,
  map,
  merge,
  of,
  repeat,
  switchMap,
  take,
  takeWhile,
  timer,
  type Observable,
} from 'rxjs';
import type { Wait } from './waits.js';

const everyMs = 500;

/** For a method with `@Sse`. */
export interface ServerSentEvent {
  readonly type: string;
  readonly data: string;
}

/**
 * Server-sent events of one type: what `read` gives now, and again whenever that has changed, at most twice a second, until it
 * is the last, or the wait ends. Sealed texts are masked.
 * @throws what the first `read` throws, while the request can still be answered with it
 */
export async function changes<T>(
  type: string,
  read: () => Promise<T>,
  isLast: (value: T) => boolean,
  { signal, end }: Wait,
): Promise<Observable<ServerSentEvent>> {
  const first = await read().catch((error: unknown) => {
    end();
    throw error;
  });
  const next = merge(timer(everyMs), fromEvent(signal, 'abort')).pipe(take(1));
  return concat(of(first), next.pipe(switchMap(read), repeat())).pipe(
    takeWhile((value) => !isLast(value) && !signal.aborted, true),
    map((value) => ({ type, data: maskSealed(JSON.stringify(value)) })),
    distinctUntilKeyChanged('data'),
    finalize(end),
  );
}

import { concat, distinctUntilKeyChanged, map, of, repeat, switchMap, takeWhile, timer, type Observable } from 'rxjs';

const everyMs = 500;

/** For a method with `@Sse`. */
export interface ServerSentEvent {
  readonly type: string;
  readonly data: string;
}

/**
 * Server-sent events of one type: what `read` gives now, and again whenever that has changed, at most twice a second, until it
 * is the last.
 * @throws what the first `read` throws, while the request can still be answered with it
 */
export async function changes<T>(
  type: string,
  read: () => Promise<T>,
  isLast: (value: T) => boolean,
): Promise<Observable<ServerSentEvent>> {
  const later = timer(everyMs).pipe(switchMap(read), repeat());
  return concat(of(await read()), later).pipe(
    takeWhile((value) => !isLast(value), true),
    map((value) => ({ type, data: JSON.stringify(value) })),
    distinctUntilKeyChanged('data'),
  );
}

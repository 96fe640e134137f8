/** Node counts in 32 bits, and turns what is longer into 1 ms. */
export const longestTimerMs = 2 ** 31 - 1;

/** Calls back after `ms`, however long that is. It does not keep the process alive. */
export function longTimeout(callback: () => void, ms: number): void {
  const left = ms - longestTimerMs;
  const next = left > 0 ? () => longTimeout(callback, left) : callback;
  setTimeout(next, Math.min(ms, longestTimerMs)).unref();
}

/** Resolves after `ms`, however long that is, or early when the signal aborts. */
export function longSleep(ms: number, signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    let timer: NodeJS.Timeout | undefined;
    const end = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', end);
      resolve();
    };
    const wait = (left: number): void => {
      const next = left > longestTimerMs ? () => wait(left - longestTimerMs) : end;
      timer = setTimeout(next, Math.min(left, longestTimerMs));
    };
    signal.addEventListener('abort', end);
    wait(ms);
  });
}

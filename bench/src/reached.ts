import { setTimeout as sleep } from 'node:timers/promises';
import { WrongWorkError } from './rounds.js';

/** Nothing counts for so long, in milliseconds: the rest will never come. */
const stallMs = 30_000;

/** Resolves when `count` has got to `total`; looks every two milliseconds, for every variant alike. */
export async function reached(count: () => number, total: number): Promise<void> {
  let [last, movedAt] = [count(), performance.now()];
  while (last < total) {
    await sleep(2);
    const now = count();
    if (now !== last) [last, movedAt] = [now, performance.now()];
    else if (performance.now() - movedAt > stallMs) {
      throw new WrongWorkError(`stands still at ${last} of ${total}; look for its errors above`);
    }
  }
}

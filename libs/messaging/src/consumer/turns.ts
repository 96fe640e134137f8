import { setTimeout as sleep } from 'node:timers/promises';

/** One piece of work after the other; who takes longer than `mostMs` (default 5 000) goes on beside the next. */
export class Turns {
  private last: Promise<unknown> = Promise.resolve();

  constructor(readonly mostMs = 5_000) {}

  /** @throws what the work throws */
  async take<T>(work: () => Promise<T>): Promise<T> {
    const before = this.last;
    let end = (): void => undefined;
    this.last = new Promise<void>((resolve) => (end = resolve));
    await before;
    const working = work();
    const over = new AbortController();
    const overdue = sleep(this.mostMs, undefined, { ref: false, signal: over.signal });
    // What the work throws is for whoever has asked for it.
    await Promise.race([working, overdue]).catch(() => undefined);
    over.abort();
    end();
    return working;
  }
}

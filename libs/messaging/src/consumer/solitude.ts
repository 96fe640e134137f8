import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Lets work run beside other work, or alone: then it waits for what runs, and what comes later waits for it. Neither wait lasts
 * longer than `mostMs`, so that a long piece of work does not keep everything else from beginning.
 */
export class Solitude {
  private running = 0;
  private aloneWanted = 0;
  private turn: Promise<unknown> = Promise.resolve();
  private readonly whenIdle = new Set<() => void>();
  private readonly whenOpen = new Set<() => void>();

  constructor(private readonly mostMs: number) {}

  async beside<T>(work: () => Promise<T>): Promise<T> {
    while (this.aloneWanted > 0) await new Promise<void>((resolve) => this.whenOpen.add(resolve));
    return this.count(work);
  }

  /** One after the other, and all of them before what waits to run beside others. */
  async alone<T>(work: () => Promise<T>): Promise<T> {
    this.aloneWanted += 1;
    let endTurn = (): void => undefined;
    const before = this.turn;
    this.turn = new Promise<void>((resolve) => (endTurn = resolve));
    await before;
    await this.wait(this.idle());
    const working = this.count(work);
    await this.wait(working);
    endTurn();
    this.aloneWanted -= 1;
    if (this.aloneWanted === 0) wake(this.whenOpen);
    return working;
  }

  private async count<T>(work: () => Promise<T>): Promise<T> {
    this.running += 1;
    try {
      return await work();
    } finally {
      this.running -= 1;
      if (this.running === 0) wake(this.whenIdle);
    }
  }

  private idle(): Promise<void> {
    return this.running === 0 ? Promise.resolve() : new Promise((resolve) => this.whenIdle.add(resolve));
  }

  private async wait(event: Promise<unknown>): Promise<void> {
    const over = new AbortController();
    const overdue = sleep(this.mostMs, undefined, { ref: false, signal: over.signal });
    // What the work throws is for whoever has asked for it.
    await Promise.race([event, overdue]).catch(() => undefined);
    over.abort();
  }
}

function wake(sleepers: Set<() => void>): void {
  const woken = [...sleepers];
  sleepers.clear();
  for (const resolve of woken) resolve();
}

/** How many handlers of a member may run at once, and the way to hold them back while partitions change hands. */
export class HandlerSlots {
  private taken = 0;
  private held = false;
  private readonly waiting: (() => void)[] = [];
  private readonly idleListeners = new Set<() => void>();

  /** `onFree` is called whenever {@link tryTake} may succeed again. */
  constructor(
    private readonly limit: () => number,
    private readonly onFree: () => void,
  ) {}

  get free(): boolean {
    return !this.held && this.taken < this.limit();
  }

  tryTake(): boolean {
    if (!this.free) return false;
    this.taken++;
    return true;
  }

  /** Waits for a slot; comes before everyone who only tries, so that a retry is not starved by new records. */
  async take(): Promise<void> {
    if (!this.tryTake()) await new Promise<void>((resolve) => this.waiting.push(resolve));
  }

  release(): void {
    this.taken--;
    this.serve();
    if (this.taken === 0) for (const listener of this.idleListeners) listener();
  }

  hold(): void {
    this.held = true;
  }

  resume(): void {
    this.held = false;
    this.serve();
  }

  /** Resolves when no slot is taken, or after `ms` milliseconds. Hold first, or it may never come to rest. */
  async idle(ms: number): Promise<void> {
    if (this.taken === 0) return;
    await new Promise<void>((resolve) => {
      const end = (): void => {
        clearTimeout(deadline);
        this.idleListeners.delete(end);
        resolve();
      };
      const deadline = setTimeout(end, ms);
      this.idleListeners.add(end);
    });
  }

  /** There may be free ones: something was given back, or the limit has risen. */
  serve(): void {
    while (this.waiting.length > 0 && this.tryTake()) this.waiting.shift()?.();
    if (this.free) this.onFree();
  }
}

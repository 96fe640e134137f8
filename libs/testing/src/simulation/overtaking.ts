/** Deliveries of one consumer that let those behind them go first. */
export class Overtaking {
  private readonly waiting = new Set<() => void>();

  /** One more has come. */
  pass(): void {
    for (const count of this.waiting) count();
  }

  /** Resolves when so many others have come, or after `mostMs`: perhaps there are none. */
  behind(others: number, mostMs: number): Promise<void> {
    return new Promise((resolve) => {
      let left = others;
      const end = (): void => {
        clearTimeout(timer);
        this.waiting.delete(count);
        resolve();
      };
      const count = (): void => {
        left -= 1;
        if (left === 0) end();
      };
      const timer = setTimeout(end, mostMs);
      this.waiting.add(count);
    });
  }
}

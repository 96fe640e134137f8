/** Queues or topics that are told to confirm nothing, as those without a majority of their replicas do. For tests. */
export class SilentPlaces {
  private readonly names = new Set<string>();
  private readonly waiting = new Set<() => void>();

  silence(name: string): void {
    this.names.add(name);
  }

  /** What waits goes on. */
  restore(name: string): void {
    this.names.delete(name);
    for (const look of [...this.waiting]) look();
  }

  get any(): boolean {
    return this.names.size > 0;
  }

  /** Resolves to whether none of them is silent, after `patienceMs` at the latest. */
  untilHeard(names: readonly string[], patienceMs: number): Promise<boolean> {
    const heard = (): boolean => !names.some((name) => this.names.has(name));
    if (heard()) return Promise.resolve(true);
    return new Promise((resolve) => {
      const end = (): void => {
        clearTimeout(deadline);
        this.waiting.delete(look);
        resolve(heard());
      };
      const look = (): void => {
        if (heard()) end();
      };
      const deadline = setTimeout(end, patienceMs);
      this.waiting.add(look);
    });
  }
}

/** Work that must come to an end within minutes, because everything behind it waits: the batch of a lane, a step of the relay. */
export class Watchdog {
  private readonly underWay = new Set<{ readonly part: string; readonly since: number }>();

  /** `part` names it in problems. @throws what the work throws */
  async during<T>(part: string, work: () => Promise<T>): Promise<T> {
    const step = { part, since: performance.now() };
    this.underWay.add(step);
    try {
      return await work();
    } finally {
      this.underWay.delete(step);
    }
  }

  /** Milliseconds that the oldest step of each part takes already, of those past `limitMs`. */
  longerThan(limitMs: number): ReadonlyMap<string, number> {
    const now = performance.now();
    const oldest = new Map<string, number>();
    for (const { part, since } of this.underWay) {
      const ms = now - since;
      if (ms > limitMs) oldest.set(part, Math.max(ms, oldest.get(part) ?? 0));
    }
    return oldest;
  }
}

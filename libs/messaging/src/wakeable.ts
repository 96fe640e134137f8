/** A wait that a signal can end; a signal given while nobody waits ends the next wait at once. */
export class Wakeable {
  private awake = false;
  private resume: (() => void) | undefined;

  wake(): void {
    this.awake = true;
    this.resume?.();
  }

  /** Resolves after `ms`, or at the next `wake()` unless `deaf`. */
  async wait(ms: number, { deaf = false } = {}): Promise<void> {
    if (this.awake && !deaf) {
      this.awake = false;
      return;
    }
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, ms);
      if (deaf) return;
      this.resume = () => {
        clearTimeout(timer);
        resolve();
      };
    });
    this.resume = undefined;
    if (!deaf) this.awake = false;
  }
}

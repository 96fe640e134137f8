/** How many observations were at most as large as each bound; an observation costs one array increment. */
export class Histogram {
  readonly counts: number[];
  count = 0;
  sum = 0;

  /** `bounds` rise. */
  constructor(readonly bounds: readonly number[]) {
    this.counts = bounds.map(() => 0);
  }

  observe(value: number): void {
    this.count += 1;
    this.sum += value;
    for (let at = 0; at < this.bounds.length; at++) {
      if (value <= (this.bounds[at] ?? Infinity)) {
        this.counts[at] = (this.counts[at] ?? 0) + 1;
        return;
      }
    }
  }

  get mean(): number {
    return this.count === 0 ? 0 : this.sum / this.count;
  }

  /** Per bound how many observations were at most as large. */
  get cumulative(): number[] {
    let below = 0;
    return this.counts.map((count) => (below += count));
  }
}

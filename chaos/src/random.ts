import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';

/** The same numbers for the same seed. */
export class Random {
  private readonly generator;

  constructor(readonly seed: number) {
    this.generator = xoroshiro128plus(seed);
  }

  /** 1 … n */
  upTo(n: number): number {
    return uniformInt(this.generator, 1, n);
  }

  of<T>(values: readonly T[] = []): T {
    const value = values[this.upTo(values.length) - 1];
    if (value === undefined) throw new Error('there is nothing to choose from');
    return value;
  }

  shuffled<T>(values: readonly T[]): T[] {
    const shuffled = [...values];
    for (let last = shuffled.length - 1; last > 0; last--) {
      const other = this.upTo(last + 1) - 1;
      [shuffled[last], shuffled[other]] = [shuffled[other] as T, shuffled[last] as T];
    }
    return shuffled;
  }
}

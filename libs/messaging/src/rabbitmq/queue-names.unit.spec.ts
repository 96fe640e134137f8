import { longestDelayMs, roundUpDelay } from './queue-names.js';

describe('roundUpDelay', () => {
  it.each([
    [0.2, 1],
    [1, 1],
    [9, 9],
    [10, 10],
    [99, 100],
    [99.1, 100],
    [100, 100],
    [101, 110],
    [999, 1000],
    [1000, 1000],
    [1001, 1100],
    [12_345, 13_000],
    [60_000, 60_000],
    [3_600_000, 3_600_000],
    [longestDelayMs, 2_700_000_000],
    [Infinity, 2_700_000_000],
  ])('%d ms becomes %d ms', (delay, rounded) => expect(roundUpDelay(delay)).toBe(rounded));

  it('never shortens, lengthens by a seventh at most, and knows few delays', () => {
    // Some fifty between two steps.
    const delays = Array.from({ length: 20_000 }, (_, n) => Math.round(100 * (longestDelayMs / 100) ** (n / 19_999)));
    const rounded = delays.map((delay) => ({ delay, to: roundUpDelay(delay) }));
    expect(rounded.filter(({ delay, to }) => to < delay)).toEqual([]);
    expect(rounded.filter(({ delay, to }) => to > (delay * 8) / 7)).toEqual([]);
    expect(new Set(rounded.map(({ to }) => to)).size).toBeLessThanOrEqual(175);
  });
});

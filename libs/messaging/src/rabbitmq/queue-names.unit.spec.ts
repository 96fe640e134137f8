import { longestDelayMs, roundUpDelay } from './queue-names.js';

describe('roundUpDelay', () => {
  it.each([
    [0.2, 1],
    [1, 1],
    [9, 9],
    [10, 10],
    [99, 99],
    [99.1, 100],
    [100, 100],
    [101, 110],
    [999, 1000],
    [1000, 1000],
    [1001, 1100],
    [12_345, 13_000],
    [60_000, 60_000],
    [longestDelayMs, longestDelayMs],
    [Infinity, longestDelayMs],
  ])('%d ms becomes %d ms', (delay, rounded) => expect(roundUpDelay(delay)).toBe(rounded));

  it('never shortens, lengthens by a tenth at most, and knows few delays', () => {
    const delays = Array.from({ length: 60_000 }, (_, n) => n + 10);
    expect(delays.filter((delay) => roundUpDelay(delay) < delay)).toEqual([]);
    expect(delays.filter((delay) => roundUpDelay(delay) > delay * 1.1)).toEqual([]);
    expect(new Set(delays.map(roundUpDelay)).size).toBeLessThan(360);
  });
});

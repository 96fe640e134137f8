import { TokenBuckets } from './token-buckets.js';

it('gives what is in a bucket, and then as much as comes back; each key has its own', () => {
  let now = 0;
  const buckets = new TokenBuckets({ perSecond: 2, burst: 3, most: 10 }, () => now);
  const take = (key = 'a', times = 1) => Array.from({ length: times }, () => buckets.take(key));
  expect(take('a', 4)).toEqual([0, 0, 0, 0.5]);
  expect(take('b')).toEqual([0]);
  now = 400;
  expect(take()[0]).toBeCloseTo(0.1);
  now = 500;
  expect(take('a', 2)).toEqual([0, 0.5]);
  now = 3_600_000;
  expect(take('a', 4)).toEqual([0, 0, 0, 0.5]);
});

it('keeps so many buckets and no more, those that are in use', () => {
  const buckets = new TokenBuckets({ perSecond: 1, burst: 1, most: 100 }, () => 0);
  expect(buckets.take('busy')).toBe(0);
  for (let n = 0; n < 10_000; n++) {
    buckets.take(`address ${n}`);
    expect(buckets.take('busy')).toBe(1);
  }
  expect(buckets.size).toBe(100);
});

import { PersistentMap } from './persistent-map.js';

it('keeps what it held when something is set', () => {
  const empty = PersistentMap.empty<number>();
  const one = empty.set('a', 1);
  const changed = one.set('a', 2).set('b', 3);
  expect([empty.size, one.size, changed.size]).toEqual([0, 1, 2]);
  expect([empty.get('a'), one.get('a'), changed.get('a'), changed.get('b')]).toEqual([undefined, 1, 2, 3]);
  expect(changed.has('c')).toBe(false);
});

it('spreads similar keys evenly', () => {
  let map = PersistentMap.empty<number>();
  for (let index = 0; index < 10_000; index += 1) map = map.set(`0.${index}`, index);
  expect(map.size).toBe(10_000);
  expect(map.get('0.9999')).toBe(9_999);
  expect(new Map(map.entries()).size).toBe(10_000);
  const buckets = (map as unknown as { rows: number[][][] }).rows.flat().map((bucket) => bucket.length);
  expect(Math.max(...buckets)).toBeLessThan(40);
});

import { SettledOffsets } from './settled-offsets.js';

it('has no position before anything settled', () => {
  const window = new SettledOffsets();
  window.begin(7n);
  expect(window.position).toBeUndefined();
  expect(window.size).toBe(1);
});

it('moves over the prefix without gaps only', () => {
  const window = new SettledOffsets();
  const [a, b, c] = [window.begin(0n), window.begin(1n), window.begin(2n)];
  expect(window.settle(c)).toBe(false);
  expect(window.position).toBeUndefined();
  expect(window.settle(a)).toBe(true);
  expect(window.position).toBe(1n);
  expect(window.size).toBe(2);
  expect(window.settle(b)).toBe(true);
  expect(window.position).toBe(3n);
  expect(window.size).toBe(0);
});

it('takes the holes of a compacted topic as they come', () => {
  const window = new SettledOffsets();
  const [a, b] = [window.begin(10n), window.begin(25n)];
  window.settle(a);
  expect(window.position).toBe(11n);
  window.settle(b);
  expect(window.position).toBe(26n);
});

it('refuses offsets out of order, also after the window emptied', () => {
  const window = new SettledOffsets();
  window.settle(window.begin(5n));
  expect(() => window.begin(5n)).toThrow(RangeError);
});

it('agrees with a naive model over random settlements, and keeps its memory bounded', () => {
  const window = new SettledOffsets();
  const open: ReturnType<SettledOffsets['begin']>[] = [];
  const settled = new Set<bigint>();
  let expected = 0n;
  // One comparison in the end: an expect() of its own for each offset takes longer than all else.
  const seen: string[] = [];
  const model: string[] = [];
  for (let offset = 0n; offset < 20_000n; offset++) {
    open.push(window.begin(offset));
    while (open.length > 50 * Math.random()) {
      const [ticket] = open.splice(Math.floor(Math.random() * open.length), 1);
      window.settle(ticket!);
      settled.add(ticket!.offset);
    }
    while (settled.has(expected)) expected++;
    seen.push(`position ${window.position ?? 0n}, size ${window.size}`);
    model.push(`position ${expected}, size ${offset + 1n - expected}`);
  }
  expect(seen).toEqual(model);
});

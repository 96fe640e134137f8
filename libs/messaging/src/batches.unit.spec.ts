import { Batches } from './batches.js';
import { DatabaseUnavailableError } from './database/unavailable.js';

it('runs the first call at once and the ones that come meanwhile together, each with its own answer', async () => {
  const batches: number[][] = [];
  let open = (): void => undefined;
  const gate = new Promise<void>((resolve) => (open = resolve));
  const doubled = new Batches<number, number>(async (items) => {
    batches.push([...items]);
    await gate;
    return items.map((item) => item * 2);
  });
  const first = doubled.call(1);
  await Promise.resolve().then(() => Promise.resolve());
  const others = [2, 3, 4].map((item) => doubled.call(item));
  open();
  expect(await Promise.all([first, ...others])).toEqual([2, 4, 6, 8]);
  expect(batches).toEqual([[1], [2, 3, 4]]);
});

it('finds the one that is to blame: the others of its batch are done, in order', async () => {
  const done: number[] = [];
  const batches = new Batches<number, number>(async (items) => {
    if (items.includes(13)) throw new Error('thirteen');
    done.push(...items);
    return items;
  });
  const items = Array.from({ length: 21 }, (_, index) => index);
  const results = await Promise.allSettled(items.map((item) => batches.call(item)));
  expect(results.flatMap((result, index) => (result.status === 'rejected' ? [index] : []))).toEqual([13]);
  expect(done).toEqual(items.filter((item) => item !== 13));
});

it('blames nobody for a database that is away: all are told at once', async () => {
  let runs = 0;
  const batches = new Batches<number, number>(async () => {
    runs += 1;
    throw new DatabaseUnavailableError(new Error('refused'));
  });
  const results = await Promise.allSettled([1, 2, 3, 4].map((item) => batches.call(item)));
  expect(results.every(({ status }) => status === 'rejected')).toBe(true);
  expect(runs).toBe(1);
});

it('tells a failure to everybody it concerns, and goes on', async () => {
  let failing = true;
  const same = new Batches<number, number>((items) =>
    failing ? Promise.reject(new Error('down')) : Promise.resolve(items),
  );
  const results = await Promise.allSettled([same.call(1), same.call(2)]);
  expect(results.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  failing = false;
  expect(await same.call(3)).toBe(3);
});

it('bounds a batch', async () => {
  const sizes: number[] = [];
  const same = new Batches<number, number>((items) => Promise.resolve(items).finally(() => sizes.push(items.length)));
  const items = Array.from({ length: 1_200 }, (_, index) => index);
  expect(await Promise.all(items.map((item) => same.call(item)))).toEqual(items);
  expect(sizes).toEqual([500, 500, 200]);
});

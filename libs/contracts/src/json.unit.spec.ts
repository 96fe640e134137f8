import { z } from 'zod';
import { json } from './json.js';

const values = [
  'text',
  1.5,
  true,
  null,
  [],
  {},
  { list: [1, { deep: [null] }] },
  undefined,
  NaN,
  Infinity,
  1n,
  new Date(0),
  new Map(),
  () => 1,
  [undefined],
  { field: undefined },
  { list: [{ date: new Date(0) }] },
];

it.each(values)('takes what z.json() takes: %p', (value) => {
  const [ours, zods] = [json.safeParse(value), z.json().safeParse(value)];
  expect(ours.success).toBe(zods.success);
  if (ours.success) expect(ours.data).toEqual(zods.data);
});

it('is not optional', () => {
  expect(z.object({ result: json }).safeParse({}).success).toBe(false);
});

import { inTransaction } from '@starter/messaging';
import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { createHash, randomBytes } from 'node:crypto';
import { CreateIdempotencyKeys1760000000003 } from './create-idempotency-keys.migration.js';
import { IdempotencyKeys } from './idempotency-key.js';

let database: TestDataSource;
const secret = randomBytes(32).toString('base64');
const keys = new IdempotencyKeys(secret);

beforeAll(async () => {
  database = await openTestDataSource([CreateIdempotencyKeys1760000000003]);
});
afterAll(() => database.close());

const ask = (key: string, request: unknown, answer: object, by = keys) =>
  inTransaction(database.dataSource, (tx) => by.earlierAnswer(tx, key, request, answer));

it.each([
  ['members', { a: 1, b: 2 }, { b: 2, a: 1 }],
  ['members of members', { x: { a: 1, b: [{ c: 1, d: 2 }] } }, { x: { b: [{ d: 2, c: 1 }], a: 1 } }],
  ['nothing', { a: undefined, b: null }, { b: null }],
  ['the spelling of numbers and texts', JSON.parse('{"a":1.0,"b":"\\u0061"}'), JSON.parse('{"b":"a","a":1e0}')],
  ['numbers as names', { 2: 'two', 10: 'ten', a: 0 }, { a: 0, 10: 'ten', 2: 'two' }],
])('takes requests that differ in the order of %s for one', async (what, first, second) => {
  expect(await ask(what, first, { n: 1 })).toBeUndefined();
  expect(await ask(what, second, { n: 2 })).toEqual({ n: 1 });
});

it.each([
  ['a value', { a: 1 }, { a: 2 }],
  ['a type', { a: 1 }, { a: '1' }],
  ['the order of items', { a: [1, 2] }, { a: [2, 1] }],
  ['a member that is null', { a: 1 }, { a: 1, b: null }],
  ['where a member is', { a: { b: 1 }, c: {} }, { a: {}, c: { b: 1 } }],
  ['something far inside', nested(50, 1), nested(50, 2)],
  [
    'a late item',
    Array.from({ length: 20_000 }, () => 0),
    Array.from({ length: 20_000 }, (_, n) => Math.floor(n / 19_999)),
  ],
])('refuses a request that differs in %s', async (what, first, second) => {
  expect(await ask(`other ${what}`, first, {})).toBeUndefined();
  await expect(ask(`other ${what}`, second, {})).rejects.toMatchObject({ status: 422 });
});

it('keeps nothing from which a request could be guessed without the secret', async () => {
  const request = { email: 'ada@example.com' };
  await ask('guess', request, {});
  const [row] = await database.dataSource.query<{ fingerprint: string }[]>(
    `SELECT fingerprint FROM idempotency_key WHERE key = 'guess'`,
  );
  expect(row?.fingerprint).not.toBe(createHash('sha256').update(JSON.stringify(request)).digest('hex'));
  await expect(
    ask('guess', request, {}, new IdempotencyKeys(randomBytes(32).toString('base64'))),
  ).rejects.toMatchObject({ status: 422 });
  expect(await ask('guess', request, {}, new IdempotencyKeys(secret))).toEqual({});
});

function nested(depth: number, value: unknown): unknown {
  return depth === 0 ? value : { inner: nested(depth - 1, value) };
}

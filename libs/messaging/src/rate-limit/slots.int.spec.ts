import { openTestDataSource, uniqueName, type TestDataSource } from '@starter/testing';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { parseRate } from './rate.js';
import { ensureSlots, slotsForNew } from './slots.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());

async function newType(): Promise<string> {
  const type = uniqueName('type');
  await ensureSlots(database.dataSource, [type]);
  return type;
}

async function take(type: string, rate: string, wanted: number, owed = 0) {
  const [slot] = await slotsForNew(database.dataSource, [{ type, rate: parseRate(rate), wanted, owed }]);
  return { granted: slot?.granted ?? NaN, nextInMs: slot?.nextInMs ?? NaN };
}

/** As if the clock of the database had jumped by so much since the last statement. */
const jump = (type: string, hours: number) =>
  database.dataSource.query(`UPDATE rate_limit_slot SET next_at = next_at - $2 * interval '1 hour' WHERE type = $1`, [
    type,
    hours,
  ]);

const hour = 3_600_000;

it('gives one slot to a slow type, and says when the next one is free', async () => {
  const type = await newType();
  expect((await take(type, '1/h', 3)).granted).toBe(1);
  const { granted, nextInMs } = await take(type, '1/h', 3);
  expect(granted).toBe(0);
  expect(nextInMs).toBeLessThanOrEqual(hour);
  expect(nextInMs).toBeGreaterThan(hour - 600_000);
});

it('gives a fast type the slots of a tenth of a second at once', async () => {
  expect((await take(await newType(), '60000/h', 500)).granted).toBe(1);
  expect((await take(await newType(), '1000/s', 500)).granted).toBe(100);
});

it('gives each slot once, however many ask at the same time', async () => {
  const types = [await newType(), await newType()];
  const asking = Array.from({ length: 40 }, (_, n) => {
    const inTurn = n % 2 === 0 ? types : types.toReversed();
    return slotsForNew(
      database.dataSource,
      inTurn.map((type) => ({ type, rate: parseRate('1/h'), wanted: 3, owed: 0 })),
    );
  });
  const granted = (await Promise.all(asking)).flat();
  for (const type of types) {
    const ofType = granted.filter((slot) => slot.type === type);
    expect(ofType.reduce((sum, slot) => sum + slot.granted, 0)).toBe(1);
  }
});

it('takes the slots of those that go anyway from those to come', async () => {
  const type = await newType();
  const { granted, nextInMs } = await take(type, '60/h', 0, 3);
  expect(granted).toBe(0);
  expect(nextInMs).toBeGreaterThan(120_000);
  expect((await take(type, '60/h', 1)).granted).toBe(0);
});

it('is not opened by a clock that jumps forward', async () => {
  const type = await newType();
  await take(type, '3600/h', 1);
  await jump(type, 1);
  expect((await take(type, '3600/h', 100)).granted).toBe(1);
});

it('is not closed for long by a clock that jumps back', async () => {
  const type = await newType();
  await take(type, '3600/h', 1);
  await jump(type, -1);
  const { granted, nextInMs } = await take(type, '3600/h', 100);
  expect(granted).toBe(0);
  expect(nextInMs).toBeLessThanOrEqual(11_000);
});

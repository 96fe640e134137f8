import { CreateMessagingTables1760000000001 } from '@starter/messaging';
import {
  account,
  Deposit,
  Deposited,
  execution,
  newBank,
  openTestDataSource,
  type TestDataSource,
} from '@starter/testing';
import { randomUUID } from 'node:crypto';
import { Readable } from 'node:stream';
import { z } from 'zod';
import { apply, on } from './actor.js';
import { CreateEventStore1760000000002 } from './create-event-store.migration.js';
import { eventLines, lastEventLines, type EventFilter, type LoggedEvent } from './event-lines.js';
import { stateAt } from './history.js';

const collect = (lines: AsyncIterable<string>): Promise<string[]> => Readable.from(lines).toArray();

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateEventStore1760000000002]);
});
afterAll(() => database.close());

const hour = (n: number) => new Date(Date.UTC(2026, 0, 1, n));

/** Deposits of 1, 2, 3, … at one, two, three … o'clock. */
async function deposits(count: number, id: string = randomUUID()) {
  const { runtime } = newBank(database.dataSource);
  for (let n = 1; n <= count; n += 1) await runtime.execute(account, execution(Deposit.type, id, n));
  await runtime.close();
  await database.dataSource.query(
    `UPDATE event SET recorded_at = $2::timestamptz + sequence * interval '1 hour' WHERE stream_id = $1`,
    [`account-${id}`, hour(0)],
  );
  return id;
}

describe('the state of an actor', () => {
  let id: string;
  beforeAll(async () => (id = await deposits(4)));

  it.each([
    [0, { state: { balance: 0 }, sequence: 0 }],
    [1, { state: { balance: 1 }, sequence: 1, time: hour(1) }],
    [3, { state: { balance: 6 }, sequence: 3, time: hour(3) }],
    [99, { state: { balance: 10 }, sequence: 4, time: hour(4) }],
  ])('after event %i', async (version, past) => {
    expect(await stateAt(database.dataSource, account, id, { version })).toEqual(past);
  });

  it.each([
    ['before all', new Date(0), { state: { balance: 0 }, sequence: 0 }],
    ['at the very instant of an event', hour(2), { state: { balance: 3 }, sequence: 2, time: hour(2) }],
    ['between two', new Date(+hour(3) - 1), { state: { balance: 3 }, sequence: 2, time: hour(2) }],
    ['after all', hour(9), { state: { balance: 10 }, sequence: 4, time: hour(4) }],
  ])('at a time: %s', async (_, time, past) => {
    expect(await stateAt(database.dataSource, account, id, { time })).toEqual(past);
  });

  it('now, and of an actor that has no past', async () => {
    expect(await stateAt(database.dataSource, account, id)).toMatchObject({ sequence: 4 });
    expect(await stateAt(database.dataSource, account, randomUUID())).toEqual({ state: { balance: 0 }, sequence: 0 });
  });

  it("is what today's code makes of the log, whatever a snapshot says", async () => {
    const upcast = { 1: ({ amount }: { amount: number }) => ({ amount: amount * 100 }) };
    const evolve = on(
      apply({ ...Deposited, version: 2, upcast }, (state: { balance: number }, { data }) => ({
        balance: state.balance + data.amount,
      })),
    );
    const snapshot = { version: 1, schema: z.object({ balance: z.int() }) };
    const [{ event }] = await database.dataSource.query<[{ event: string }]>(
      `SELECT id AS event FROM event WHERE stream_id = $1 AND sequence = 2`,
      [`account-${id}`],
    );
    await database.dataSource.query(`INSERT INTO snapshot VALUES ($1, 1, 2, $2, '{"balance": -7}')`, [
      `account-${id}`,
      event,
    ]);
    const now = await stateAt(database.dataSource, { ...account, evolve, snapshot }, id);
    expect(now).toMatchObject({ state: { balance: 1_000 }, sequence: 4 });
  });

  it('is not guessed where the log lacks something', async () => {
    const torn = await deposits(3);
    await database.dataSource.query('DELETE FROM event WHERE stream_id = $1 AND sequence = 1', [`account-${torn}`]);
    await expect(stateAt(database.dataSource, account, torn)).rejects.toThrow(
      `account-${torn} has a gap: after sequence 0 comes 2; restore the missing events`,
    );
  });
});

describe('event lines', () => {
  const prefix = randomUUID();
  beforeAll(async () => {
    await database.dataSource.query('TRUNCATE event');
    await deposits(3, `${prefix}-a`);
    await deposits(2, `${prefix}-b`);
    await database.dataSource.query(
      `UPDATE event SET type = 'account.closed' WHERE stream_id LIKE '%-b' AND sequence = 2`,
    );
  });

  const placesOf = (lines: readonly string[]) =>
    lines.map((line) => {
      const { stream_id, sequence } = JSON.parse(line) as LoggedEvent;
      return `${stream_id.slice(-1)}${sequence}`;
    });
  const read = async (filter: EventFilter, order?: { chronological: boolean }) =>
    placesOf(await collect(eventLines(database.dataSource, filter, order)));

  it('hold all of a row, to the last digit', async () => {
    await database.dataSource.query(
      `UPDATE event SET data = '{"amount": 12345678901234567890.125}', recorded_at = '2026-01-01T01:00:00.123456Z'
        WHERE stream_id = $1 AND sequence = 1`,
      [`account-${prefix}-a`],
    );
    const [line] = await collect(eventLines(database.dataSource, { stream: `account-${prefix}-a` }));
    expect(line).toContain('12345678901234567890.125');
    expect(line).toContain('2026-01-01T01:00:00.123456');
    // The number of the transaction means nothing in another database: what is restored gets a new one.
    expect(Object.keys(JSON.parse(line!) as object)).toEqual(
      (
        await database.dataSource.query<{ name: string }[]>(
          `SELECT attname AS name FROM pg_attribute
            WHERE attrelid = 'event'::regclass AND attnum > 0 AND attname <> 'transaction_id' ORDER BY attnum`,
        )
      ).map(({ name }) => name),
    );
  });

  it.each<[string, EventFilter, string[]]>([
    ['all', {}, ['a1', 'a2', 'a3', 'b1', 'b2']],
    ['of a stream', { stream: `account-${prefix}-b` }, ['b1', 'b2']],
    ['of a type', { type: 'account.closed' }, ['b2']],
    ['of a time', { since: hour(2), until: hour(3) }, ['a2', 'b2']],
    ['of all of that', { stream: `account-${prefix}-a`, type: Deposited.type, since: hour(3) }, ['a3']],
  ])('%s, stream by stream', async (_, filter, places) => expect(await read(filter)).toEqual(places));

  it('in the order of their times', async () => {
    expect(await read({}, { chronological: true })).toEqual(['b1', 'a1', 'a2', 'b2', 'a3']);
  });

  it('the last ones, however long ago', async () => {
    expect(placesOf(await lastEventLines(database.dataSource, 2))).toEqual(['b2', 'a3']);
    expect(placesOf(await lastEventLines(database.dataSource, 2, { type: Deposited.type }))).toEqual(['a2', 'a3']);
    expect(placesOf(await lastEventLines(database.dataSource, 9, { stream: `account-${prefix}-b` }))).toEqual([
      'b1',
      'b2',
    ]);
    const fresh = randomUUID();
    const { runtime } = newBank(database.dataSource);
    await runtime.execute(account, execution(Deposit.type, `${fresh}-c`, 1));
    await runtime.close();
    expect(placesOf(await lastEventLines(database.dataSource, 2))).toEqual(['a3', 'c1']);
    expect(placesOf(await lastEventLines(database.dataSource, 1))).toEqual(['c1']);
  });

  it('through a cursor that is given up early leave the connection usable', async () => {
    for await (const line of eventLines(database.dataSource)) {
      expect(line).toContain('a');
      break;
    }
    expect(await read({ type: 'account.closed' })).toEqual(['b2']);
  });
});

import { defineProjection, on, project, reject } from '@starter/event-sourcing';
import type { Statement, Transaction } from '@starter/messaging';
import { Deposited, draft, Withdrawn } from './bank.js';
import { givenEvents } from './given-events.js';
import { openTestDataSource, type TestDataSource } from './test-data-source.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([]);
  await database.dataSource.query('CREATE TABLE booking (number int, kind text, amount int)');
});
afterAll(() => database.close());

const insert: Statement = {
  name: 'spec-booking',
  text: `INSERT INTO booking SELECT * FROM unnest($1::int[], $2::text[], $3::int[])`,
};
const book = (tx: Transaction, kind: string, events: readonly { sequence: number; data: { amount: number } }[]) =>
  tx.query(insert, [events.map((e) => e.sequence), events.map(() => kind), events.map((e) => e.data.amount)]);

const bookings = defineProjection('bookings', {
  handlers: on(
    project(Deposited, async (tx, events) => {
      await book(tx, 'in', events);
    }),
    project(Withdrawn, async (tx, events) => {
      if (events.some(({ data }) => data.amount > 100)) return reject('more than 100');
      await book(tx, 'out', events);
    }),
  ),
});

it('compares the rows, and leaves none behind', async () => {
  const projected = givenEvents([draft(Deposited, { amount: 5 }), draft(Withdrawn, { amount: 1 })]).project(
    bookings,
    database.dataSource,
  );
  const rows = [
    { number: 1, kind: 'in', amount: 5 },
    { number: 2, kind: 'out', amount: 1 },
  ];
  await projected.thenRows('booking', ...rows);
  await expect(projected.thenRows('booking', rows[0]!)).rejects.toThrow();
  await expect(projected.thenRefused('more than 100')).rejects.toThrow();
  expect(await database.dataSource.query('SELECT * FROM booking')).toEqual([]);
});

it('compares refusals', async () => {
  await givenEvents([draft(Withdrawn, { amount: 101 })])
    .project(bookings, database.dataSource)
    .thenRefused('more than 100');
});

it('finds a projection that comes to something else when its events share a batch', async () => {
  const careless = defineProjection('careless', {
    handlers: on(
      project(Deposited, async (tx, events) => {
        await book(tx, 'in', events.slice(0, 1));
      }),
    ),
  });
  const both = givenEvents([draft(Deposited, { amount: 5 })], [draft(Deposited, { amount: 6 })]);
  await expect(both.project(careless, database.dataSource).thenRows('booking')).rejects.toThrow(/"amount": 6/);
});

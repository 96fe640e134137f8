import { CreateMessagingTables1760000000001, inTransaction } from '@starter/messaging';
import { Deposited, openTestDataSource, type TestDataSource } from '@starter/testing';
import { CreateEventStore1760000000002 } from './create-event-store.migration.js';
import { StreamWindow } from './stream-window.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateEventStore1760000000002]);
});
afterEach(() => database.dataSource.query('TRUNCATE event'));
afterAll(() => database.close());

/** Sequences of the events by stream, as they were read, and how many pages that took. */
async function readAll(eventsOf: readonly number[], pageSize: number) {
  const streams = eventsOf.map((_, index) => `stream-${index}`);
  await database.dataSource.query(
    `INSERT INTO event SELECT stream, sequence, gen_random_uuid(), $3, 1, '{ "amount": 1 }', 'spec', NULL, 'spec', now()
       FROM unnest($1::text[], $2::int[]) AS wanted (stream, events), generate_series(1, events) AS sequence`,
    [streams, eventsOf, Deposited.type],
  );
  const left = streams.map((stream) => ({ stream, sequence: 0 }));
  const window = new StreamWindow((_, limit) => Promise.resolve(left.splice(0, limit)), pageSize);
  const read = new Map<string, number[]>(streams.map((stream) => [stream, []]));
  let largest = 0;
  await inTransaction(database.dataSource, async (tx) => {
    for (let page = await window.next(tx); page.length > 0; page = await window.next(tx)) {
      largest = Math.max(largest, page.length);
      for (const { stream, sequence } of page) read.get(stream)?.push(sequence);
    }
  });
  return { read: [...read.values()], largest };
}
const upTo = (last: number) => Array.from({ length: last }, (_, index) => index + 1);

it.each([
  ['streams that all end with a page', Array.from({ length: 35 }, () => 5)],
  ['streams that end at different times', Array.from({ length: 35 }, (_, index) => index % 13)],
  ['one that is longer than many pages', [...Array.from({ length: 30 }, () => 1), 500]],
  ['no stream', []],
])('reads every event of %s, in order', async (_, eventsOf) => {
  const { read, largest } = await readAll(eventsOf, 50);
  expect(read).toEqual(eventsOf.map(upTo));
  expect(largest).toBeLessThanOrEqual(100);
});

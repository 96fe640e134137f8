import { eventually, openTestDataSource, type TestDataSource } from '@starter/testing';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { OutboxBacklog } from './outbox-backlog.js';
import type { HeldKey } from './outbox-row.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());

const running: OutboxBacklog[] = [];
let held: HeldKey[] = [];
beforeEach(() => (held = []));
afterEach(async () => {
  await Promise.all(running.splice(0).map((backlog) => backlog.stop()));
  await database.dataSource.query('TRUNCATE outbox');
});

function watch(marks: { rows?: number; ageMs?: number }) {
  const backlog = new OutboxBacklog(database.dataSource, marks, { everyMs: 10, held: () => held });
  running.push(backlog);
  backlog.start();
  return backlog;
}
const fill = (rows: number, age: string) =>
  database.dataSource.query(
    `INSERT INTO outbox (channel, address, ordering_key, message, written_at)
     SELECT 'event', 't', n::text, '{}', now() - $2::interval FROM generate_series(1, $1::int) AS n`,
    [rows, age],
  );
const leave = (rows: number) =>
  database.dataSource.query(`DELETE FROM outbox WHERE position NOT IN (SELECT position FROM outbox LIMIT $1)`, [rows]);

it('is high past the mark and until it is below 30 % again', async () => {
  const backlog = watch({ rows: 100 });
  await fill(100, '0 s');
  await eventually(() => expect(backlog.rows).toBe(100));
  expect(backlog.high).toBe(false);
  await fill(50, '0 s');
  await eventually(() => expect(backlog).toMatchObject({ rows: 101, high: true }));
  await leave(30);
  await eventually(() => expect(backlog).toMatchObject({ rows: 30, high: true }));
  await leave(29);
  await eventually(() => expect(backlog).toMatchObject({ rows: 29, high: false }));
});

it('leaves out what waits behind a dead letter', async () => {
  const backlog = watch({ rows: 100 });
  held = [{ address: 't', key: '7' }];
  await fill(50, '1 hour');
  await eventually(() => expect(backlog.rows).toBe(49));
});

it('counts the age of many, and not that of a few', async () => {
  const backlog = watch({ ageMs: 60_000 });
  await fill(999, '1 hour');
  await eventually(() => expect(backlog.rows).toBe(999));
  expect(backlog.oldestMs).toBeGreaterThan(3_500_000);
  expect(backlog.high).toBe(false);
  await fill(1, '0 s');
  await eventually(() => expect(backlog).toMatchObject({ rows: 1_000, high: true }));
});

import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { z } from 'zod';
import type { HandlerOptions } from '../consumer/handler-options.js';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { silentLogger } from '../logger.js';
import { MemoryCommandTransport } from '../memory/memory-command-transport.js';
import { MemoryEventTransport } from '../memory/memory-event-transport.js';
import { Messaging } from '../messaging.js';
import { checkInboxRetention, purgeStatement, RetentionJob, retryHorizonMs, type RetainedTable } from './retention.js';

const hour = 3_600_000;
const inbox: RetainedTable = { table: 'inbox', column: 'received_at', retentionMs: 24 * hour };

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());
beforeEach(() => database.dataSource.query('TRUNCATE inbox'));

const fill = (rows: number, ageHours: number) =>
  database.dataSource.query(
    `INSERT INTO inbox (consumer, message_id, received_at)
     SELECT 'bank', $2 || '-' || n, now() - make_interval(hours => $2::int) FROM generate_series(1, $1::int) AS n`,
    [rows, String(ageHours)],
  );
const count = async (): Promise<number> => {
  const [row] = await database.dataSource.query<{ n: number }[]>('SELECT count(*)::int AS n FROM inbox');
  return row?.n ?? 0;
};
const newJob = () => new RetentionJob(database.dataSource, [inbox], silentLogger);

it('deletes in batches what is older than the retention, and nothing else', async () => {
  await fill(12_345, 25);
  await fill(100, 23);
  const job = newJob();
  await job.run();
  expect([job.purged, await count()]).toEqual([12_345, 100]);
  await job.run();
  expect(job.purged).toBe(12_345);
});

it('looks at little more than it deletes, also once new rows lie where old ones were', async () => {
  await fill(50_000, 25);
  await newJob().run();
  await database.dataSource.query('VACUUM inbox');
  await fill(50_000, 1);
  await database.dataSource.query('ANALYZE inbox');
  const [sizes] = await database.dataSource.query<[{ pages: number }]>(
    `SELECT (pg_relation_size('inbox') / 8192)::int AS pages`,
  );
  expect(sizes.pages).toBeGreaterThan(300);
  const { text } = purgeStatement(inbox.table, inbox.column);
  const [row] = await database.dataSource.query<[{ 'QUERY PLAN': [{ Plan: Record<string, number> }] }]>(
    `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ${text}`,
    [24 * 3600, 5_000, new Date(0)],
  );
  const { Plan } = row['QUERY PLAN'][0];
  expect((Plan['Shared Hit Blocks'] ?? 0) + (Plan['Shared Read Blocks'] ?? 0)).toBeLessThan(20);
});

it('leaves the work to the instance that is at it', async () => {
  await fill(10, 25);
  const runner = database.dataSource.createQueryRunner();
  await runner.startTransaction();
  await runner.query(`SELECT pg_advisory_xact_lock(hashtextextended('purge inbox', 0))`);
  const job = newJob();
  await job.run();
  expect([job.purged, await count()]).toEqual([0, 10]);
  await runner.commitTransaction();
  await runner.release();
  await job.run();
  expect(await count()).toBe(0);
});

it('stops between two batches', async () => {
  await fill(20_000, 25);
  const job = newJob();
  const running = job.run();
  await job.stop();
  await running;
  expect((await count()) % 5_000).toBe(0);
  expect(await count()).toBeGreaterThan(0);
});

it('refuses a retention that is shorter than the time in which a message may come again', () => {
  const horizon = retryHorizonMs({ maxRetries: 3, backoff: { baseMs: hour, factor: 2, maxMs: 100 * hour, jitter: 0 } });
  expect(horizon).toBe(7 * hour + 4 * (hour / 2 + 60_000));
  expect(() => checkInboxRetention(10 * hour, horizon, 'user.register')).not.toThrow();
  expect(() => checkInboxRetention(9 * hour, horizon, 'user.register')).toThrow(
    /for 9.0 h, but .* after 9.1 h.*INBOX_RETENTION_DAYS/,
  );
});

it("looks at each handler, with what it has of its own and what is the service's", () => {
  const schema = z.object({});
  const Known = { kind: 'command', type: 'spec.known', version: 1, owner: 'spec', schema } as const;
  const register = (hours: number, handler: HandlerOptions) => () =>
    new Messaging({
      ...{ service: 'spec', partitions: 1, logger: silentLogger, dataSource: database.dataSource },
      ...{ commands: new MemoryCommandTransport(), events: new MemoryEventTransport() },
      failurePolicy: { maxRetries: 1, backoff: { baseMs: 20 * hour, maxMs: 20 * hour, jitter: 0 } },
      timeLimit: { hardMs: 2 * hour },
      inboxRetentionMs: hours * hour,
    }).commands.handle(Known, async () => undefined, handler);
  // 20 h for the retry, 2 h and a minute for each of the two attempts.
  expect(register(24, {})).toThrow(/but spec.known may come again after 24.0 h/);
  expect(register(25, {})).not.toThrow();
  expect(register(25, { failurePolicy: { maxRetries: 2 } })).toThrow(/spec.known may come again after 46.0 h/);
  expect(register(24, { timeLimit: { hardMs: hour } })).not.toThrow();
});

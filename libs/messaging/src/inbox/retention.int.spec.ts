import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { silentLogger } from '../logger.js';
import { MemoryCommandTransport } from '../memory/memory-command-transport.js';
import { MemoryEventTransport } from '../memory/memory-event-transport.js';
import { Messaging } from '../messaging.js';
import { checkInboxRetention, RetentionJob, retryHorizonMs, type RetainedTable } from './retention.js';

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
  expect(() => checkInboxRetention(10 * hour, horizon)).not.toThrow();
  expect(() => checkInboxRetention(9 * hour, horizon)).toThrow(/for 9.0 h, but .* after 9.1 h.*INBOX_RETENTION_DAYS/);
});

it('takes the policy and the time limit of the service for that', () => {
  const policy = { maxRetries: 1, backoff: { baseMs: 20 * hour, maxMs: 20 * hour, jitter: 0 } };
  const messaging = (hours: number) => () =>
    new Messaging({
      ...{ service: 'spec', partitions: 1, logger: silentLogger, dataSource: database.dataSource },
      ...{ commands: new MemoryCommandTransport(), events: new MemoryEventTransport() },
      failurePolicy: policy,
      timeLimit: { hardMs: 2 * hour },
      inboxRetentionMs: hours * hour,
    });
  // 20 h for the retry, 2 h and a minute for each of the two attempts.
  expect(messaging(24)).toThrow(/may come again after 24.0 h/);
  expect(messaging(25)).not.toThrow();
});

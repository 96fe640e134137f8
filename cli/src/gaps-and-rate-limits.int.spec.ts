import { CreateEventStore1760000000002 } from '@starter/event-sourcing';
import { CreateMessagingTables1760000000001 } from '@starter/messaging';
import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateEventStore1760000000002]);
});
afterAll(() => database.close());

/** The built command, on the database of this spec. */
async function operate(name: string, ...args: string[]): Promise<{ out: string; error: string }> {
  const env = { ...process.env, NODE_OPTIONS: '', DATABASE_URL: database.url };
  const started = promisify(execFile)(process.execPath, [`cli/dist/${name}.js`, ...args], { env });
  return started.then(
    ({ stdout, stderr }) => ({ out: stdout, error: stderr }),
    ({ stdout, stderr }: { stdout: string; stderr: string }) => ({ out: stdout, error: stderr }),
  );
}

it('lists what is missing, and gives it up with a reason', async () => {
  const consumer = 'user-service.directory';
  await database.dataSource.query(
    `INSERT INTO inbox_sequence (consumer, key, sequence, parked_to) VALUES ($1, 'user-1', 4, 8)`,
    [consumer],
  );
  await database.dataSource.query(
    `INSERT INTO inbox_parked (consumer, key, sequence, id, type, message) SELECT $1, 'user-1', n, n, 'spec', '{}' FROM generate_series(7, 8) AS n`,
    [consumer],
  );
  await database.dataSource.query(
    `INSERT INTO inbox_gap (consumer, key, missing_from, missing_to, since) VALUES ($1, 'user-1', 5, 6, now())`,
    [consumer],
  );
  expect((await operate('gaps', 'list')).out).toMatch(/user-service\.directory.*user-1.*5 to 6/);
  const skip = ['gaps', 'skip', consumer, 'user-1', '--reason', 'the sender is gone'] as const;
  expect((await operate(...skip, '--up-to', '7')).error).toContain('misses from 5 to 6 of "user-1"');
  expect((await operate(...skip, '--up-to', '6')).out).toBe(`${consumer} goes on with user-1 behind 6\n`);
  expect((await operate('gaps', 'list', '--json')).out).toBe('');
  expect(await database.dataSource.query('SELECT missing_from, missing_to, reason FROM inbox_skipped')).toEqual([
    { missing_from: '5', missing_to: '6', reason: 'the sender is gone' },
  ]);
});

it('gives up what is missing of all keys of a consumer, as it is now', async () => {
  const consumer = 'user-service.many';
  const { dataSource } = database;
  await dataSource.query(
    `INSERT INTO inbox_sequence (consumer, key, sequence, parked_to) SELECT $1, 'user-' || n, 4, 8 FROM generate_series(1, 50) AS n`,
    [consumer],
  );
  // Of the first key 6 has come since the gap was recorded, of the second all that was missing.
  await dataSource.query(
    `INSERT INTO inbox_parked (consumer, key, sequence, id, type, message)
     SELECT $1, 'user-' || n, 8, 'event-' || n, 'user.registered', '{}'::json FROM generate_series(1, 50) AS n
     UNION ALL VALUES ($1, 'user-1', 6, 'event-1-6', 'user.registered', '{}'::json), ($1, 'user-2', 5, 'event-2-5', 'user.registered', '{}')`,
    [consumer],
  );
  await dataSource.query(
    `INSERT INTO inbox_gap (consumer, key, missing_from, missing_to, since)
     SELECT $1, 'user-' || n, 5, 7, CASE n WHEN 50 THEN now() ELSE now() - interval '1 day' END FROM generate_series(1, 50) AS n`,
    [consumer],
  );
  const skipAll = ['gaps', 'skip-all', consumer, '--reason', 'lost with the old topic'] as const;
  const anHourAgo = new Date(Date.now() - 3_600_000).toISOString();
  expect((await operate(...skipAll, '--before', anHourAgo)).out).toBe(`${consumer} goes on with 48 keys\n`);
  const sequenceOf = async (key: string) =>
    dataSource.query('SELECT sequence FROM inbox_sequence WHERE consumer = $1 AND key = $2', [consumer, key]);
  expect(await Promise.all(['user-1', 'user-2', 'user-3', 'user-50'].map(sequenceOf))).toEqual([
    [{ sequence: '5' }],
    [{ sequence: '4' }],
    [{ sequence: '7' }],
    [{ sequence: '4' }],
  ]);
  expect((await operate(...skipAll)).out).toBe(`${consumer} goes on with 1 keys\n`);
  expect(await dataSource.query('SELECT count(*)::int FROM inbox_skipped WHERE consumer = $1', [consumer])).toEqual([
    { count: 49 },
  ]);
});

it('changes a rate limit and takes it back', async () => {
  const stored = () => database.dataSource.query('SELECT type, rate FROM rate_limit');
  expect((await operate('rate-limits', 'set', 'email.send', '100/h')).out).toBe('email.send: 100/h\n');
  expect((await operate('rate-limits', 'list')).out).toMatch(/email\.send.*100\/h.*0/);
  expect((await operate('rate-limits', 'set', 'email.send', 'much')).error).toContain('"much" is no rate limit');
  expect(await stored()).toEqual([{ type: 'email.send', rate: '100/h' }]);
  await operate('rate-limits', 'set', 'email.send', 'code');
  expect(await stored()).toEqual([]);
});

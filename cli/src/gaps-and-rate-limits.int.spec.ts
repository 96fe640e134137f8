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
    `INSERT INTO inbox_parked (consumer, key, sequence, message) SELECT $1, 'user-1', n, '{}' FROM generate_series(7, 8) AS n`,
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

it('changes a rate limit and takes it back', async () => {
  const stored = () => database.dataSource.query('SELECT type, rate FROM rate_limit');
  expect((await operate('rate-limits', 'set', 'email.send', '100/h')).out).toBe('email.send: 100/h\n');
  expect((await operate('rate-limits', 'list')).out).toMatch(/email\.send.*100\/h.*0/);
  expect((await operate('rate-limits', 'set', 'email.send', 'much')).error).toContain('"much" is no rate limit');
  expect(await stored()).toEqual([{ type: 'email.send', rate: '100/h' }]);
  await operate('rate-limits', 'set', 'email.send', 'code');
  expect(await stored()).toEqual([]);
});

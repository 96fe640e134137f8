import { CreateEventStore1760000000002 } from '@starter/event-sourcing';
import { CreateMessagingTables1760000000001 } from '@starter/messaging';
import { CreateTaskTable1760000000005 } from '@starter/tasks';
import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([
    CreateMessagingTables1760000000001,
    CreateEventStore1760000000002,
    CreateTaskTable1760000000005,
  ]);
});
afterAll(() => database.close());

/** The built command, on the database of this spec. */
async function tasks(...args: string[]): Promise<{ out: string; error: string }> {
  const env = { ...process.env, NODE_OPTIONS: '', DATABASE_URL: database.url };
  const started = promisify(execFile)(process.execPath, ['cli/dist/tasks.js', ...args], { env });
  return started.then(
    ({ stdout, stderr }) => ({ out: stdout, error: stderr }),
    ({ stdout, stderr }: { stdout: string; stderr: string }) => ({ out: stdout, error: stderr }),
  );
}

beforeEach(async () => {
  await database.dataSource.query('TRUNCATE task');
  await database.dataSource.query(
    `INSERT INTO task (id, state, message, worker, attempt, run, progress, result, error, started_at, due_at, ended_at)
     SELECT id, state, json_build_object('type', 'test.do-it', 'data', json_build_object('n', 7)), 'test@host:1', 1, 1,
            progress::json, result::json, error, now(), due, ended
       FROM (VALUES ('one', 'PROGRESS', '{"current":1,"total":4,"percent":25}', NULL, NULL, NULL, NULL),
                    ('two', 'RETRY', NULL, NULL, 'busy', now(), NULL),
                    ('three', 'SUCCESS', NULL, '{"rows":3}', NULL, NULL, now()))
         AS given (id, state, progress, result, error, due, ended)`,
  );
});

it('shows what runs and what waits', async () => {
  const shown = await Promise.all([tasks('active'), tasks('scheduled'), tasks('list', '--state', 'SUCCESS', '--json')]);
  const [active, scheduled, list] = shown.map(({ out }) => out);
  expect(active).toMatch(/one.*test\.do-it.*PROGRESS.*25 %.*test@host:1.*\{"n":7\}/);
  expect(scheduled).toMatch(/two.*retry.*busy/);
  expect(list?.split('\n')).toHaveLength(2);
});

it('shows when what waits for its rate limit is due', async () => {
  await database.dataSource.query(
    `INSERT INTO rate_limit_slot (type, next_at, every) VALUES ('test.do-it', '2100-01-01T00:00:00Z', '1 hour')`,
  );
  await database.dataSource.query(
    `INSERT INTO rate_limit_waiting (type, message_id, address, message)
     SELECT 'test.do-it', id, 'test.do-it', '{"data":{}}' FROM unnest('{next,last}'::text[]) AS id`,
  );
  const { out } = await tasks('scheduled');
  expect(out).toMatch(/two.*retry[^]*next.*rate limit.*2100-01-01T00:00[^]*last.*rate limit.*2100-01-01T01:00/);
});

it('shows one, and waits for its result', async () => {
  const [result, late, unknown] = await Promise.all([
    tasks('result', 'three'),
    tasks('result', 'one', '--timeout', '0'),
    tasks('show', 'nobody-knows'),
  ]);
  expect(result.out).toBe('SUCCESS: {"rows":3}\n');
  expect(late.error).toContain('PROGRESS, and was not over');
  expect(JSON.parse(unknown.out)).toMatchObject({ state: 'PENDING' });
});

it('says so when the service has no tasks', async () => {
  await database.dataSource.query('ALTER TABLE task RENAME TO elsewhere');
  try {
    expect((await tasks('active')).error).toContain('user-service has no tasks');
  } finally {
    await database.dataSource.query('ALTER TABLE elsewhere RENAME TO task');
  }
});

it('revokes with a reason', async () => {
  expect((await tasks('revoke', 'one', '--reason', 'slow')).out).toBe('one runs, and is asked to end\n');
  expect((await tasks('revoke', 'one', '--terminate', '--reason', 'slow')).out).toBe('one is revoked\n');
  expect((await tasks('revoke', 'three', '--reason', 'late')).error).toContain('three is over and cannot be revoked');
});

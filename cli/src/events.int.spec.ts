import { jest } from '@jest/globals';
import { CreateEventStore1760000000002 } from '@starter/event-sourcing';
import { CreateMessagingTables1760000000001 } from '@starter/messaging';
import { createTestDatabase, eventually, openTestDataSource, type TestDataSource } from '@starter/testing';
import { spawn, type ChildProcess } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EntityManager } from 'typeorm';

// Each command is a process of its own.
jest.setTimeout(180_000);
const patience = { timeoutMs: 60_000 };

let database: TestDataSource;
let folder: string;
const running = new Set<ChildProcess>();
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateEventStore1760000000002]);
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'events-'));
  await database.dataSource.query('TRUNCATE event, archived_stream');
});
afterEach(async () => {
  for (const child of running) child.kill('SIGKILL');
  await rm(folder, { recursive: true, force: true });
});
afterAll(() => database.close());

interface Program {
  readonly child: ChildProcess;
  readonly out: () => string;
  readonly exit: Promise<{ code: number | null; out: string; error: string }>;
}

/** The built command, on the database of this spec. */
function start(args: readonly string[], environment: Record<string, string | undefined> = {}): Program {
  const child = spawn(process.execPath, ['cli/dist/events.js', ...args], {
    env: { ...process.env, NODE_OPTIONS: '', DATABASE_URL: database.url, ...environment },
  });
  running.add(child);
  const texts = { out: '', error: '' };
  child.stdout.setEncoding('utf8').on('data', (text: string) => (texts.out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (texts.error += text));
  const exit = new Promise<number | null>((resolve) => child.on('close', resolve)).then((code) => {
    running.delete(child);
    return { code, ...texts };
  });
  return { child, out: () => texts.out, exit };
}
const events = (...args: string[]) => start(args).exit;

/** What is printed, one value per line. */
async function json(...args: string[]): Promise<Record<string, unknown>[]> {
  const { code, out, error } = await events(...args, '--json');
  expect({ code, error }).toEqual({ code: 0, error: '' });
  return out
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

const hour = (n: number) => new Date(Date.UTC(2026, 0, 1, n)).toISOString();

async function append(
  stream: string,
  sequence: number,
  type: string,
  time = hour(sequence),
  connection: Pick<EntityManager, 'query'> = database.dataSource.manager,
) {
  const { data } = JSON.parse(await readFile(`libs/contracts/fixtures/${type}.v1.json`, 'utf8'));
  await connection.query(
    `INSERT INTO event (stream_id, sequence, id, type, version, data, correlation_id, command, recorded_at)
     VALUES ($1, $2, gen_random_uuid(), $3, 1, $4, 'the-request', $5, $6)`,
    [stream, sequence, type, data, `command-of-${type}`, time],
  );
}

/** A user that was registered at one o'clock, activated at two and deactivated at three. */
async function life(stream = `user-${randomUUID()}`) {
  await append(stream, 1, 'user.registered');
  await append(stream, 2, 'user.activated');
  await append(stream, 3, 'user.deactivated');
  return stream;
}

describe('show', () => {
  it('is a table of what has happened', async () => {
    const stream = await life();
    await life();
    const { code, out } = await events('show', stream);
    const [head, ...rows] = out.trimEnd().split('\n');
    expect(code).toBe(0);
    expect(head).toMatch(/^sequence +time +type and version +command +correlation +data$/);
    expect(rows).toHaveLength(3);
    expect(rows[0]).toMatch(
      /^ +1 {2}2026-01-01T01:00:00\.000Z {2}user\.registered v1 +command-of-user\.registered +the-request +\{".*\}$/,
    );
  });

  it('says so when there is no such stream', async () => {
    expect(await events('show', 'user-1')).toEqual({
      code: 1,
      out: '',
      error:
        'there is no stream user-1 in the database of user-service; look for it with tail, or choose another --service\n',
    });
  });
});

describe('tail', () => {
  it('is the last events, as many as wanted, of a type or of a stream', async () => {
    const [stream] = [await life(), await life()];
    const rows = (await events('tail')).out.trimEnd().split('\n');
    expect(rows).toHaveLength(6);
    expect(rows.at(-1)).toMatch(/^2026-01-01T03:00:00\.000Z {2}user-\S+ #3 +user\.deactivated v1 +\{/);
    expect(await json('tail', '-n', '1', '--type', 'user.activated', '--stream', stream)).toMatchObject([
      { stream_id: stream, sequence: 2 },
    ]);
  });

  it('goes on with what is new, each event once, whatever it says of its time and however late it is committed', async () => {
    const stream = await life();
    const fromNow = (ms: number) => new Date(Date.now() + ms).toISOString();
    await append(stream, 4, 'user.activated', fromNow(0));
    // Older than the first look.
    const late = database.dataSource.createQueryRunner();
    await late.startTransaction();
    await append(`user-${randomUUID()}`, 1, 'user.registered', fromNow(0), late.manager);
    const tail = start(['tail', '-n', '2', '--follow', '--json']);
    const seen = () =>
      tail
        .out()
        .split('\n')
        .slice(0, -1)
        .map((line) => JSON.parse(line).sequence);
    await eventually(() => expect(seen()).toEqual([3, 4]), patience);
    await append(stream, 5, 'user.activated', fromNow(1_000));
    await eventually(() => expect(seen()).toEqual([3, 4, 5]), patience);
    await append(stream, 6, 'user.activated', fromNow(-60_000));
    await eventually(() => expect(seen()).toEqual([3, 4, 5, 6]), patience);
    await late.commitTransaction();
    await late.release();
    await eventually(() => expect(seen()).toEqual([3, 4, 5, 6, 1]), patience);
    await append(stream, 7, 'user.activated', fromNow(0));
    await eventually(() => expect(seen()).toEqual([3, 4, 5, 6, 1, 7]), patience);
  });
});

describe('export', () => {
  it('is lines of JSON, on the standard output or in a file that is complete', async () => {
    const [a] = [await life(), await life()];
    const { out } = await events('export');
    expect(out.trimEnd().split('\n')).toHaveLength(6);
    const file = join(folder, 'log.jsonl');
    expect(await events('export', '--to', file)).toMatchObject({ code: 0, out: `6 events in ${file}\n` });
    expect(await readFile(file, 'utf8')).toBe(out);
    expect(await readdir(folder)).toEqual(['log.jsonl']);
    const some = await json(
      'export',
      '--since',
      hour(2),
      '--until',
      hour(3),
      '--type',
      'user.activated',
      '--stream',
      a,
    );
    expect(some).toMatchObject([{ stream_id: a, sequence: 2, recorded_at: '2026-01-01T02:00:00+00:00' }]);
  });

  it('takes no memory for what it has written, and ends when nobody reads on', async () => {
    await database.dataSource.query(
      `INSERT INTO event SELECT 'user-many', n, gen_random_uuid(), 'user.activated', 1, jsonb_build_object('text', repeat('x', 3000)),
              'c', NULL, 'x', now() FROM generate_series(1, 40000) n`,
    );
    const small = { NODE_OPTIONS: '--max-old-space-size=80' };
    const file = join(folder, 'log.jsonl');
    expect(await start(['export', '--to', file], small).exit).toMatchObject({
      code: 0,
      out: `40000 events in ${file}\n`,
    });
    const reader = start(['export']);
    await eventually(() => expect(reader.out()).not.toBe(''), patience);
    reader.child.stdout?.destroy();
    expect(await reader.exit).toMatchObject({ code: 0, error: '' });
  });
});

describe('state', () => {
  it('is an actor as it is or as it was', async () => {
    const stream = await life();
    expect(await json('state', stream, '--at-version', '2')).toMatchObject([
      { sequence: 2, state: { status: 'active' } },
    ]);
    const { out } = await events('state', stream, '--at-time', '2026-01-01');
    expect(out).toBe(`${stream} before its first event\n{\n  "status": "new"\n}\n`);
    const past = await events('state', stream, '--at-time', '2026-01-01T01:30:00Z');
    expect(past.out).toContain(`${stream} after event 1, recorded ${hour(1)}\n{\n  "status": "registered",\n`);
  });

  it.each([
    ['email-service', 'email.requested', 'attempting'],
    ['orchestrator', 'workflow.started', 'running'],
  ])('knows the actors of %s', async (service, type, status) => {
    const stream = `${type.split('.')[0]}-${randomUUID()}`;
    await append(stream, 1, type);
    expect(await json('state', stream, '--service', service)).toMatchObject([{ state: { status } }]);
  });
});

describe('archive and restore', () => {
  it('move the past of streams at rest to a file, and back', async () => {
    const stream = await life();
    const file = join(folder, 'past.jsonl');
    // The number of the transaction is of the last one that brought it.
    const rows = `SELECT to_jsonb(event) - 'transaction_id' AS event FROM event ORDER BY stream_id, sequence`;
    const log = () => database.dataSource.query<unknown[]>(rows);
    const before = await log();
    expect(await json('archive', '--before', hour(4), '--to', file, '--actor', 'user')).toEqual([
      { streams: 1, events: 2, skipped: 0, file },
    ]);
    expect(await log()).toEqual(before.slice(2));
    const failed = await events('state', stream);
    expect(failed).toMatchObject({ code: 1, out: '' });
    const [, command = ''] = /npm run events -- (.*)$/m.exec(failed.error) ?? [];
    expect(command).toBe(`restore ${file}`);
    expect(await events(...command.split(' '))).toEqual({
      code: 0,
      out: '2 events of 1 streams are in the log again\n',
      error: '',
    });
    expect(await log()).toEqual(before);
  });
});

describe('what is wrong is said', () => {
  it.each<[string, string[], string]>([
    ['a time', ['export', '--since', 'yesterday'], 'Write it like 2026-11-25T08:30:00Z'],
    ['a file that is not there', ['restore', 'none.jsonl'], 'no such file'],
    ['a stream of another service', ['state', 'email-1'], 'choose another one with --service'],
  ])('%s', async (_, args, message) => {
    const { code, out, error } = await events(...args);
    expect({ code, out, error }).toEqual({ code: 1, out: '', error: expect.stringContaining(message) });
  });

  it('a database that is not named, not there, or of nobody', async () => {
    expect(await start(['tail'], { DATABASE_URL: undefined }).exit).toMatchObject({
      code: 1,
      error: 'set DATABASE_URL to the database of user-service, or give --database-url\n',
    });
    const nowhere = await events('tail', '--database-url', 'postgres://postgres@127.0.0.1:1/x');
    expect(nowhere.error).toMatch(/^the database of user-service cannot be reached: .*; check DATABASE_URL/);
    const empty = await createTestDatabase();
    expect((await events('tail', '--database-url', empty.url)).error).toContain('start user-service once');
    await empty.drop();
  });
});

import { jest } from '@jest/globals';
import { CreateEventStore1760000000002 } from '@starter/event-sourcing';
import { CreateMessagingTables1760000000001 } from '@starter/messaging';
import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

// Each command is a process of its own.
jest.setTimeout(180_000);

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateEventStore1760000000002]);
});
beforeEach(() => database.dataSource.query('TRUNCATE dead_letter, outbox, inbox_discarded'));
afterAll(() => database.close());

/** The built command, on the database of this spec. */
async function deadLetters(...args: string[]): Promise<{ code: number | null; out: string; error: string }> {
  const child = spawn(process.execPath, ['cli/dist/dead-letters.js', ...args], {
    env: { ...process.env, NODE_OPTIONS: '', DATABASE_URL: database.url },
  });
  let [out, error] = ['', ''];
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (error += text));
  const code = await new Promise<number | null>((resolve) => child.on('close', resolve));
  return { code, out, error };
}

/** What is printed, one value per line. */
async function json(...args: string[]): Promise<Record<string, unknown>[]> {
  const { code, out, error } = await deadLetters(...args, '--json');
  expect({ code, error }).toEqual({ code: 0, error: '' });
  return out
    .split('\n')
    .slice(0, -1)
    .map((line) => JSON.parse(line));
}

/** A command that failed so many days ago. */
async function failed({ errorType = 'RangeError', days = 1, redrivable = true } = {}): Promise<string> {
  const id = randomUUID();
  const data = { userId: randomUUID(), email: 'ada@example.com', name: 'Ada' };
  const message = { id, type: 'user.register', version: 1, source: 'x', time: '', correlationId: id, data };
  await database.dataSource.query(
    `INSERT INTO dead_letter (consumer, id, kind, type, key, error_type, reason, origin, attempts, first_failed_at, failed_at,
                              message, redrivable)
     VALUES ('user-service.commands', $1, 'command', 'user.register', 'user-1', $2, 'a defect', 'q', 1, $3, $3, $4, $5)`,
    [id, errorType, new Date(Date.now() - days * 86_400_000), JSON.stringify(message), redrivable],
  );
  return id;
}
const rows = (table: string) => database.dataSource.query<Record<string, unknown>[]>(`SELECT * FROM ${table}`);

it('lists, groups, shows and exports', async () => {
  const [one, other] = [await failed(), await failed({ errorType: 'RetriesExhausted', days: 2 })];
  expect(await json('list')).toMatchObject([{ id: one }, { id: other }]);
  expect(await json('list', '--error', 'RangeError')).toMatchObject([{ id: one }]);
  const [, { next }] = (await json('list', '-n', '1')) as [unknown, { next: string }];
  expect(await json('list', '-n', '1', '--after', next)).toMatchObject([{ id: other }]);
  expect((await deadLetters('list')).out).toMatch(new RegExp(`user-service\\.commands.*user\\.register.*${one}`));
  expect(await json('groups')).toMatchObject([
    { errorType: 'RangeError', count: 1 },
    { errorType: 'RetriesExhausted', count: 1 },
  ]);
  expect(await json('show', one)).toMatchObject([{ id: one, message: { data: { name: 'Ada' } }, history: [] }]);
  expect(await deadLetters('show', 'nobody')).toMatchObject({
    ...{ code: 1, out: '' },
    error: 'user-service has no dead letter nobody; list them, or choose another --service\n',
  });
  const folder = await mkdtemp(join(tmpdir(), 'dead-letters-'));
  const file = join(folder, 'letters.jsonl');
  expect(await deadLetters('export', '--to', file)).toMatchObject({ code: 0, out: `2 dead letters in ${file}\n` });
  expect(await readFile(file, 'utf8')).toContain(other);
  await rm(folder, { recursive: true });
});

it('redrives some or all, and asks about old ones', async () => {
  const [one, old] = [await failed(), await failed({ days: 40 })];
  expect((await deadLetters('redrive')).error).toBe('say which: ids, a filter like --type, or --all\n');
  expect((await deadLetters('redrive', one)).out).toBe('1 redriven\n');
  expect(await rows('outbox')).toMatchObject([{ address: 'user-service.commands', message: { id: one, redrives: 1 } }]);
  expect(await deadLetters('redrive', '--all')).toMatchObject({ code: 1, error: expect.stringContaining('--yes') });
  expect((await deadLetters('redrive', '--all', '--retention-days', '60')).code).toBe(0);
  await database.dataSource.query(`UPDATE dead_letter SET status = 'open' WHERE id = $1`, [old]);
  await database.dataSource.query(`DELETE FROM outbox WHERE message ->> 'id' = $1`, [old]);
  expect(await json('redrive', '--all', '--yes')).toEqual([{ redriven: 1, skipped: 0 }]);
  expect(await json('list', '--status', 'scheduled')).toHaveLength(2);
  expect(await rows('outbox')).toMatchObject([{ message: { id: one } }, { message: { id: old } }]);
});

it('discards with a reason, without personal data', async () => {
  await failed();
  expect((await deadLetters('discard', '--all')).error).toContain('--reason');
  expect((await deadLetters('discard', '--type', 'user.register', '--reason', 'a test')).out).toBe('1 discarded\n');
  const [discarded] = await rows('inbox_discarded');
  expect(discarded).toMatchObject({ reason: 'a test', message: { data: { email: '[redacted]', name: '[redacted]' } } });
  expect(await rows('dead_letter')).toEqual([]);
});

it('lists what was discarded, and redrives it', async () => {
  const id = await failed();
  await database.dataSource.query(
    `INSERT INTO inbox_discarded (consumer, message_id, kind, type, reason, message, redrivable)
     SELECT consumer, id, kind, type, 'it was invalid', message, true FROM dead_letter`,
  );
  await database.dataSource.query('DELETE FROM dead_letter');
  expect(await json('list')).toEqual([]);
  expect(await json('list', '--status', 'discarded')).toMatchObject([
    { id, status: 'discarded', reason: 'it was invalid' },
  ]);
  expect((await deadLetters('redrive', '--discarded', id)).out).toBe('1 redriven\n');
  expect(await rows('outbox')).toMatchObject([{ address: 'user-service.commands', message: { id, redrives: 1 } }]);
  expect(await rows('inbox_discarded')).toEqual([]);
});

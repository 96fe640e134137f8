import { MemoryCommandBroker, MemoryCommandTransport, MemoryEventLog, MemoryEventTransport } from '@starter/messaging';
import { readSettings, startService, type RunningService } from '@starter/service';
import { createTestDatabase, eventually, testPersonalDataKey, type TestDatabase } from '@starter/testing';
import { userService } from '../index.js';

let database: TestDatabase;
let service: RunningService;

beforeAll(async () => {
  database = await createTestDatabase();
  service = await startService(userService, {
    settings: readSettings(userService.settings, {
      ...{ PORT: '0', DATABASE_URL: database.url, LOG_LEVEL: 'silent', PERSONAL_DATA_KEY: testPersonalDataKey },
    }),
    transports: {
      commands: new MemoryCommandTransport(new MemoryCommandBroker()),
      events: new MemoryEventTransport(new MemoryEventLog()),
    },
  });
});
afterAll(async () => {
  await service?.stop();
  await database?.drop();
});

const headers = { 'content-type': 'application/json' };
const get = (path: string, url = service.url) => fetch(url + path);
const json = async (response: Response) => (await response.json()) as Record<string, unknown>;
const post = async (path: string, body: object, more: Record<string, string> = {}) =>
  json(
    await fetch(service.url + path, { method: 'POST', headers: { ...headers, ...more }, body: JSON.stringify(body) }),
  );

it('exports the directory as CSV, and goes on where an attempt has ended', async () => {
  const { userId } = await post('/users', { email: 'ada@example.com', name: '=Ada "L"' });
  await eventually(async () => expect((await get(`/users/${String(userId)}`)).status).toBe(200));
  // Rows that would take more than one part.
  await service.messaging.dataSource.query(
    `INSERT INTO user_directory (user_id, email, name, status, registered_at, version)
     SELECT gen_random_uuid(), d.email, d.name, 'registered', now(), 1 FROM user_directory d, generate_series(1, 2500)`,
  );
  const { taskId } = await post('/users/exports', {});
  const ended = await json(await get(`/tasks/${String(taskId)}/result?timeout=60s`, service.managementUrl));
  expect(ended).toMatchObject({ name: 'user.export', state: 'SUCCESS', result: { users: 2_501 } });
  const response = await get(`/users/exports/${String(taskId)}`);
  expect(response.headers.get('content-type')).toContain('text/csv');
  const [head, ...rows] = (await response.text()).trimEnd().split('\n');
  expect(head).toBe('id,email,name,status,registered at');
  expect(new Set(rows.map((row) => row.split(',')[0])).size).toBe(2_501);
  expect(rows.find((row) => row.includes(String(userId)))).toContain(`,"ada@example.com","'=Ada ""L""",`);
});

it('tells what is no export, or is none yet', async () => {
  expect((await get('/users/exports/0198c5f0-0000-7000-8000-000000000000')).status).toBe(404);
  expect(await post('/users/exports', { status: 'lost' })).toMatchObject({ status: 400 });
});

it('is started once for an Idempotency-Key, also by requests at the same time', async () => {
  const key = { 'idempotency-key': 'export-1' };
  const ask = (body: object) => post('/users/exports', body, key);
  const [first, ...others] = await Promise.all(Array.from({ length: 5 }, () => ask({ status: 'active' })));
  expect(others).toEqual(others.map(() => first));
  expect(await ask({ status: 'active' })).toEqual(first);
  expect(await ask({})).toMatchObject({ status: 422 });
  expect(await post('/users/exports', {}, { 'idempotency-key': '' })).toMatchObject({ status: 400 });
  const ended = await get(`/tasks/${String(first?.['taskId'])}/result?timeout=60s`, service.managementUrl);
  expect(await json(ended)).toMatchObject({ state: 'SUCCESS' });
  const sql = `SELECT count(*)::int AS count FROM task WHERE message -> 'data' ->> 'status' = 'active'`;
  expect(await service.messaging.dataSource.query(sql)).toEqual([{ count: 1 }]);
  // Each without a key is another one.
  expect((await post('/users/exports', {}))['taskId']).not.toBe((await post('/users/exports', {}))['taskId']);
});

import { MemoryCommandBroker, MemoryCommandTransport, MemoryEventLog, MemoryEventTransport } from '@starter/messaging';
import { readSettings, startService, type RunningService } from '@starter/service';
import { createTestDatabase, eventually, sealedText, testPersonalDataKey, type TestDatabase } from '@starter/testing';
import { randomUUID } from 'node:crypto';
import { userService } from '../index.js';

interface User {
  readonly id: string;
  readonly email: string;
}

let database: TestDatabase;
let service: RunningService;
let second: RunningService;

beforeAll(async () => {
  database = await createTestDatabase();
  const broker = new MemoryCommandBroker();
  const log = new MemoryEventLog();
  const start = () =>
    startService(userService, {
      settings: readSettings(userService.settings, {
        PORT: '0',
        DATABASE_URL: database.url,
        LOG_LEVEL: 'silent',
        PERSONAL_DATA_KEY: testPersonalDataKey,
      }),
      transports: { commands: new MemoryCommandTransport(broker), events: new MemoryEventTransport(log) },
    });
  // Two instances on an empty database: the migrations of one wait for those of the other.
  [service, second] = await Promise.all([start(), start()]);
});

afterAll(async () => {
  await service?.stop();
  await second?.stop();
  await database?.drop();
});

const request = async (path: string, init: RequestInit = {}, url = service.url) => {
  const response = await fetch(url + path, init);
  return {
    status: response.status,
    type: response.headers.get('content-type'),
    body: (await response.json()) as object,
  };
};
const management = (path: string) => request(path, {}, service.managementUrl);
const post = (body: unknown, headers: Record<string, string> = {}) =>
  request('/users', {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });
const uniqueEmail = () => `${randomUUID()}@example.com`;

it.each([
  ['malformed JSON', '{"email":', 400],
  ['no body', '', 400],
  ['an array', [], 400],
  ['a missing field', { email: 'a@example.com' }, 400],
  ['a wrong type', { email: 'a@example.com', name: 7 }, 400],
  ['a malformed address', { email: 'not an address', name: 'A' }, 400],
  ['an empty name', { email: 'a@example.com', name: '  ' }, 400],
  ['an unknown field', { email: 'a@example.com', name: 'A', role: 'admin' }, 400],
  ['a character that cannot be stored', { email: 'nul@example.com', name: 'A\u0000B' }, 400],
  ['a name that looks sealed', { email: 'a@example.com', name: sealedText('A') }, 400],
  ['a body of 1 MB', { email: 'a@example.com', name: 'x'.repeat(1_000_000) }, 413],
])('answers %s with a problem and stores nothing', async (_, body, status) => {
  const answer = await post(body);
  expect(answer).toMatchObject({ status, type: 'application/problem+json; charset=utf-8', body: { status } });
  expect(JSON.stringify(answer.body)).not.toContain('stack');
});

it('names each field that does not fit', async () => {
  const { body } = await post({ email: 'nope' });
  expect(body).toMatchObject({ errors: [{ field: 'email' }, { field: 'name' }] });
});

it('refuses another content type and an over-long Idempotency-Key', async () => {
  const xml = await request('/users', { method: 'POST', headers: { 'content-type': 'application/xml' }, body: '<a/>' });
  expect(xml.status).toBe(415);
  const key = { 'idempotency-key': 'x'.repeat(256) };
  expect((await post({ email: uniqueEmail(), name: 'A' }, key)).status).toBe(400);
});

it('knows no user that does not exist, and says what a malformed id is', async () => {
  expect(await request(`/users/${randomUUID()}`)).toMatchObject({ status: 404, body: { title: 'Not Found' } });
  expect((await request('/users/me')).status).toBe(400);
  expect((await request('/nowhere')).type).toContain('application/problem+json');
});

it('serves the same idempotent answer from either instance', async () => {
  const init = {
    method: 'POST',
    headers: { 'content-type': 'application/json', 'idempotency-key': randomUUID() },
    body: JSON.stringify({ email: uniqueEmail(), name: 'Ada' }),
  };
  const answers = await Promise.all(
    [service, second, service, second].map(async ({ url }) => (await fetch(`${url}/users`, init)).text()),
  );
  expect(new Set(answers).size).toBe(1);
});

it('pages through the users, newest first, each once', async () => {
  const names = Array.from({ length: 7 }, (_, n) => `Page ${n}`);
  for (const name of names) {
    const { body } = await post({ email: uniqueEmail(), name });
    await eventually(async () =>
      expect((await request(`/users/${(body as { userId: string }).userId}`)).status).toBe(200),
    );
  }
  const seen: User[] = [];
  let after = '';
  do {
    const { body } = await request(`/users?limit=3${after && `&after=${after}`}`);
    const page = body as { users: User[]; next?: string };
    expect(page.users.length).toBeLessThanOrEqual(3);
    seen.push(...page.users);
    after = page.next ?? '';
  } while (after);
  expect(new Set(seen.map(({ id }) => id)).size).toBe(seen.length);
  expect(seen.slice(0, 7)).toMatchObject([...names].reverse().map((name) => ({ name })));
});

it('answers what was just written, from either instance, when the version is asked for', async () => {
  const userIds = await Promise.all(
    Array.from({ length: 10 }, async () => {
      const { body } = await post({ email: uniqueEmail(), name: 'Ada' });
      return (body as { userId: string }).userId;
    }),
  );
  const answers = await Promise.all(
    userIds.map((id, index) => fetch(`${[service, second][index % 2]!.url}/users/${id}?atLeastVersion=1`)),
  );
  expect(answers.map(({ status }) => status)).toEqual(userIds.map(() => 200));
  expect(await Promise.all(answers.map((answer) => answer.json()))).toMatchObject(
    userIds.map((id) => ({ id, version: 1 })),
  );
});

it('says when to come back for a version that does not arrive', async () => {
  const response = await fetch(`${service.url}/users/${randomUUID()}?atLeastVersion=1`);
  expect(response.status).toBe(503);
  expect(response.headers.get('retry-after')).toBe('1');
  expect(await response.json()).toMatchObject({
    title: 'Service Unavailable',
    detail: expect.stringMatching(/has not arrived.*ask again/) as unknown,
  });
});

it('erases a user for both instances, and frees the address', async () => {
  const email = uniqueEmail();
  const { body } = await post({ email, name: 'Ada' });
  const { userId } = body as { userId: string };
  const from = async ({ url }: RunningService) =>
    (await (await fetch(`${url}/users/${userId}?atLeastVersion=1`)).json()) as object;
  for (const instance of [service, second]) {
    expect(await from(instance)).toMatchObject({ email, name: 'Ada', status: 'registered' });
  }
  expect(await request(`/users/${userId}`, { method: 'DELETE' })).toMatchObject({ status: 202, body: { userId } });
  await eventually(async () => {
    for (const instance of [service, second]) {
      expect(await from(instance)).toMatchObject({ email: null, name: null, status: 'erased' });
    }
  });
  expect((await request(`/users/${userId}`, { method: 'DELETE' })).status).toBe(202);
  await eventually(async () => expect((await post({ email, name: 'Ada' })).status).toBe(202));
  expect((await request(`/users/${randomUUID()}`, { method: 'DELETE' })).status).toBe(404);
  expect((await request('/users/me', { method: 'DELETE' })).status).toBe(400);
});

it.each(['0', 'x', '1.5', '99999999999'])('refuses GET /users/:id?atLeastVersion=%s', async (version) => {
  expect((await request(`/users/${randomUUID()}?atLeastVersion=${version}`)).status).toBe(400);
});

it.each(['limit=0', 'limit=101', 'limit=x', 'after=x', 'sort=name'])('refuses GET /users?%s', async (query) => {
  expect((await request(`/users?${query}`)).status).toBe(400);
});

it('describes itself, and is ready', async () => {
  const { body } = await management('/docs-json');
  expect(body).toMatchObject({ paths: { '/users': { post: {}, get: {} }, '/users/{id}': { get: {}, delete: {} } } });
  expect(await management('/health/ready')).toMatchObject({ status: 200, body: { status: 'ok' } });
  expect((await management('/health/live')).status).toBe(200);
});

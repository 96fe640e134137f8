import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { MemoryCommandTransport, MemoryEventTransport } from '@starter/messaging';
import { startService, type RunningService } from '@starter/service';
import { createTestDatabase, eventually, testPersonalDataKey, type TestDatabase } from '@starter/testing';
import { userService } from '@starter/user-service';
import { Client } from 'pg';

let database: TestDatabase;
let service: RunningService;
beforeAll(async () => {
  database = await createTestDatabase();
  service = await startService(userService, {
    settings: userService.settings.parse({
      PORT: '0',
      DATABASE_URL: database.url,
      LOG_LEVEL: 'silent',
      PERSONAL_DATA_KEY: testPersonalDataKey,
    }),
    transports: { commands: new MemoryCommandTransport(), events: new MemoryEventTransport() },
  });
});
afterAll(async () => {
  await service?.stop();
  await database?.drop();
});

/** The built command, on the database of this spec. */
async function projections(...args: string[]): Promise<{ out: string; error: string }> {
  const env = { ...process.env, NODE_OPTIONS: '', DATABASE_URL: database.url };
  const started = promisify(execFile)(process.execPath, ['cli/dist/projections.js', ...args], { env });
  return started.then(
    ({ stdout, stderr }) => ({ out: stdout, error: stderr }),
    ({ stdout, stderr }: { stdout: string; stderr: string }) => ({ out: stdout, error: stderr }),
  );
}
const statusOf = async (name: string) => {
  const lines = (await projections('status', '--json')).out.trimEnd().split('\n');
  return lines.map((line) => JSON.parse(line) as { name: string; behind: number }).find((one) => one.name === name);
};

async function query<Row extends object>(text: string): Promise<Row[]> {
  const client = new Client({ connectionString: database.url });
  await client.connect();
  const { rows } = await client.query<Row>(text);
  await client.end();
  return rows;
}
const register = async (name: string): Promise<string> => {
  const response = await fetch(`${service.url}/users`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ name, email: `${name}@example.com` }),
  });
  return ((await response.json()) as { userId: string }).userId;
};
const nameOf = async (id: string) =>
  ((await (await fetch(`${service.url}/users/${id}?atLeastVersion=1`)).json()) as { name?: string }).name;

it('shows how far the projections are, and makes one anew under a running service', async () => {
  const ids = await Promise.all(['ada', 'bob', 'eve'].map(register));
  await eventually(async () => expect(await statusOf('user-directory')).toMatchObject({ behind: 0, failed: 0 }));
  await query(`DELETE FROM user_directory WHERE user_id = '${ids[0]}'`);
  await query(`UPDATE user_directory SET status = 'deactivated'`);

  const { out, error } = await projections('rebuild', 'user-directory');
  expect({ out, error }).toMatchObject({ out: expect.stringMatching(/made anew from 3 events in/), error: '' });
  expect(await query('SELECT status FROM user_directory')).toEqual(ids.map(() => ({ status: 'registered' })));
  expect(await Promise.all(ids.map(nameOf))).toEqual(['ada', 'bob', 'eve']);
  expect(await nameOf(await register('kay'))).toBe('kay');

  const table = (await projections('status')).out;
  expect(table).toMatch(/email-reservation +│ inline +│ 0 .*│ cannot be/);
  expect(table).toMatch(/user-directory +│ asynchronous │ 0 +│ 0 +│ 0 +│ \d{4}-/);
});

it('says what is wrong', async () => {
  expect((await projections('rebuild', 'directory')).error).toMatch(
    /user-service has no projection directory; it has: .*user-directory. Another --service\?/,
  );
  expect((await projections('rebuild', 'email-reservation')).error).toMatch(/declares no tables of its own/);
  expect((await projections('status', '--service', 'mail')).error).toMatch(/Allowed choices are user-service/);
});

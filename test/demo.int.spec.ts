import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { eventually } from '@starter/testing';

const native = process.env['NATIVE_BROKERS'] !== 'missing';
let folder: string;
const running = new Set<ChildProcess>();

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'demo-'));
});
afterEach(async () => {
  for (const child of running) child.kill('SIGKILL');
  await rm(folder, { recursive: true, force: true });
});

interface Program {
  readonly child: ChildProcess;
  output(): string;
  readonly exit: Promise<number | null>;
}

/** The built demo, on free ports. */
const demo = (args: string[], environment: Record<string, string> = {}): Program =>
  start('demo/dist/main.js', args, {
    ...{ USER_SERVICE_PORT: '0', EMAIL_SERVICE_PORT: '0', ORCHESTRATOR_PORT: '0' },
    ...environment,
  });

/** A built program as its own process. */
function start(file: string, args: string[], environment: Record<string, string> = {}): Program {
  const child = spawn(process.execPath, [file, ...args], {
    env: { ...process.env, NODE_OPTIONS: '', ...environment },
  });
  running.add(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => (output += text));
  }
  const exit = new Promise<number | null>((resolve) => child.on('close', resolve));
  void exit.then(() => running.delete(child));
  return { child, output: () => output, exit };
}

async function usersFile(count: number): Promise<string> {
  const file = join(folder, 'users.jsonl');
  const lines = Array.from({ length: count }, (_, n) =>
    JSON.stringify({ email: `user-${n}@example.com`, name: `User ${n}` }),
  );
  await writeFile(file, lines.join('\n'));
  return file;
}

it('plays a users file, shows a path and a summary, and exits 0', async () => {
  const { exit, output } = demo(['--once', '--users', await usersFile(30)]);
  expect({ code: await exit, output: output() }).toMatchObject({ code: 0 });
  expect(output()).toMatch(/registered +30 of 30/);
  expect(output()).toMatch(/e-mails caught +30 of 30/);
  expect(output()).toMatch(/activated +30 of 30/);
  expect(output()).toContain('user.register → user.registered');
  expect(output()).toContain('user.activate → user.activated');
});

it('exits 1 when somebody is refused, and says who and why', async () => {
  const file = join(folder, 'users.jsonl');
  await writeFile(file, '{"email":"not an address","name":"X"}\n');
  const { output, exit } = demo(['--once', '--users', file]);
  expect(await exit).toBe(1);
  expect(output()).toMatch(/refused +not an address: 400 .*email/);
});

it.each([
  ['a line that is not JSON', '{"email":', [], 'users.jsonl:1 is not JSON'],
  ['a line without a name', '{"email":"a@example.com"}', [], 'users.jsonl:1 needs "email" and "name"'],
  ['an empty file', '\n', [], 'holds no users'],
  ['an unknown option', '', ['--user'], "Unknown option '--user'"],
  ['an unknown kind of brokers', '', ['--brokers', 'postal'], '--brokers is one of memory, native, env'],
])('refuses %s before it starts anything', async (_, content, args, message) => {
  const file = join(folder, 'users.jsonl');
  await writeFile(file, content);
  const { exit, output } = demo(['--once', '--users', file, ...args]);
  expect(await exit).toBe(1);
  expect(output()).toContain(message);
  expect(output()).not.toContain('PostgreSQL');
});

it('names the variable to set when a port is taken', async () => {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '0.0.0.0', resolve));
  const { port } = server.address() as AddressInfo;
  const { exit, output } = demo(['--once', '--users', await usersFile(1)], { EMAIL_SERVICE_PORT: String(port) });
  expect(await exit).toBe(1);
  expect(output()).toContain(`port ${port} of email-service is in use; set EMAIL_SERVICE_PORT`);
  await new Promise((resolve) => server.close(resolve));
});

it('drains and exits 0 on Ctrl-C, and plays the same file again without registering anybody twice', async () => {
  const dataDir = join(folder, 'data');
  const args = ['--users', await usersFile(20), '--data-dir', dataDir];
  const first = demo(args);
  await eventually(() => expect(first.output()).toContain('The services stay up'), { timeoutMs: 60_000 });
  first.child.kill('SIGINT');
  expect(await first.exit).toBe(0);
  const second = demo([...args, '--once']);
  expect({ code: await second.exit, output: second.output() }).toMatchObject({ code: 0 });
  expect(await mailIds(dataDir)).toHaveLength(20);
});

if (native) {
  it('plays on the brokers and the database that npm run brokers has started and named', async () => {
    const brokers = start('libs/local-backends/dist/main.js', []);
    await eventually(() => expect(brokers.output()).toContain('export '), { timeoutMs: 90_000 });
    const assignments = [...brokers.output().matchAll(/(\w+)=(\S+)/g)].map(([, name = '', value = '']) => [
      name,
      value,
    ]);
    const named = Object.fromEntries(assignments) as Record<string, string>;
    expect(Object.keys(named).sort()).toEqual(['DATABASE_URL', 'KAFKA_BROKERS', 'RABBITMQ_URL']);
    const { exit, output } = demo(['--once', '--brokers', 'env', '--users', await usersFile(20)], named);
    expect({ code: await exit, output: output() }).toMatchObject({ code: 0 });
    expect(output()).not.toContain('PostgreSQL');
    brokers.child.kill('SIGINT');
    expect(await brokers.exit).toBe(0);
  }, 150_000);

  it('loses nothing and doubles nothing when it is killed in the middle, on real brokers', async () => {
    const count = 300;
    const dataDir = join(folder, 'data');
    const args = ['--once', '--brokers', 'native', '--users', await usersFile(count), '--data-dir', dataDir];
    const killed = demo(args);
    await eventually(async () => expect((await mailIds(dataDir)).length).toBeGreaterThan(count / 5), {
      timeoutMs: 90_000,
      everyMs: 5,
    });
    killed.child.kill('SIGKILL');
    await killed.exit;
    const caught = (await mailIds(dataDir)).length;
    expect(caught).toBeLessThan(count);
    const again = demo(args);
    expect({ code: await again.exit, output: again.output() }).toMatchObject({ code: 0 });
    expect(again.output()).toMatch(new RegExp(`activated +${count} of ${count}`));
    expect(new Set(await mailIds(dataDir)).size).toBe(count);
  }, 240_000);
}

async function mailIds(dataDir: string): Promise<string[]> {
  const text = await readFile(join(dataDir, 'mails.jsonl'), 'utf8').catch(() => '');
  return text
    .split('\n')
    .filter((line) => line.endsWith('}'))
    .map((line) => (JSON.parse(line) as { messageId: string }).messageId);
}

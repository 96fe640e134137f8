import { MemoryCommandTransport, MemoryEventTransport, newMessageId } from '@starter/messaging';
import { orchestrator } from '@starter/orchestrator';
import { readSettings, startService, type RunningService } from '@starter/service';
import { createTestDatabase, eventually, type TestDatabase } from '@starter/testing';
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

const [commands, events] = [new MemoryCommandTransport(), new MemoryEventTransport()];
let database: TestDatabase;
let service: RunningService;
let folder: string;

beforeAll(async () => {
  database = await createTestDatabase();
  folder = await mkdtemp(join(tmpdir(), 'workflows-'));
  const settings = readSettings(orchestrator.settings, { DATABASE_URL: database.url, PORT: '0', LOG_LEVEL: 'silent' });
  service = await startService(orchestrator, { settings, transports: { commands, events } });
});
afterAll(async () => {
  await service?.stop();
  await Promise.all([commands.close(), events.close()]);
  await database?.drop();
  await rm(folder, { recursive: true, force: true });
});

/** The built command, against the orchestrator of this spec. */
async function operate(...args: string[]): Promise<{ out: string; error: string }> {
  const env = { ...process.env, NODE_OPTIONS: '', ORCHESTRATOR_URL: service.url };
  return promisify(execFile)(process.execPath, ['cli/dist/workflows.js', ...args], { env }).then(
    ({ stdout, stderr }) => ({ out: stdout, error: stderr }),
    ({ stdout, stderr }: { stdout: string; stderr: string }) => ({ out: stdout, error: stderr }),
  );
}

const start = async (definition: unknown): Promise<string> => {
  const file = join(folder, 'definition.json');
  await writeFile(file, JSON.stringify(definition));
  const { out, error } = await operate('start', 'nap', '{}', '--definition', file, '--json');
  expect(error).toBe('');
  return (JSON.parse(out) as { workflowId: string }).workflowId;
};
const sleep = (duration: string) => ({ kind: 'sleep', duration });

it('starts a workflow, waits for its result, lists and shows it, and forks it', async () => {
  const id = await start({ kind: 'chain', steps: [sleep('1ms'), sleep('2ms')] });
  const { out } = await operate('result', id, '--json');
  expect(JSON.parse(out)).toEqual({ id, state: 'completed', result: null });
  expect((await operate('list', '--state', 'completed')).out).toContain(id);
  expect((await operate('show', id)).out).toContain('"duration": "2ms"');
  expect((await operate('show', id, '--state', 'requested', '--limit', '1')).out).toContain('"steps": []');
  const fork = JSON.parse((await operate('fork', id, '0.1')).out) as { workflowId: string };
  expect((await operate('result', fork.workflowId)).out).toContain('completed');
});

it('cancels a node of it, and says why that is not possible', async () => {
  const id = await start({ kind: 'chain', steps: [sleep('1h'), sleep('1h')] });
  await eventually(async () => expect((await operate('show', id)).error).toBe(''));
  const cancel = (path: string) => operate('cancel', id, '--reason', 'too long', '--path', path);
  expect((await cancel('0.1')).error).toContain('0.1 sleep has not begun');
  expect((await cancel('0.0')).error).toBe('');
  expect((await operate('result', id)).out).toContain('0.0 sleep was cancelled: too long');
  expect((await operate('unstick', id, '0.0', 'skip')).error).toContain('not stuck');
});

it('says what is wrong with what it is given', async () => {
  expect((await operate('show', newMessageId())).error).toContain('There is no workflow');
  expect((await operate('start', 'nap', '{')).error).toContain('It is no JSON');
  expect((await operate('start', 'unknown', '{}')).error).toContain('there are: user-onboarding');
  expect((await operate('list', '--url', 'http://127.0.0.1:1')).error).toContain('name its --url');
});

import { Module } from '@nestjs/common';
import { createMessage, MemoryCommandBroker, MemoryCommandTransport, MemoryEventTransport } from '@starter/messaging';
import { baseSettings, readSettings, startService, type RunningService } from '@starter/service';
import { createTestDatabase, eventually, type TestDatabase } from '@starter/testing';
import { once } from 'node:events';
import { z } from 'zod';
import { CreateTaskTable1760000000005 } from './create-task-table.migration.js';
import type { TaskContext } from './task-context.js';
import { Tasks } from './tasks.js';
import { TasksModule } from './tasks.module.js';

const schema = z.strictObject({ n: z.int() });
const DoIt = { kind: 'command', type: 'spec.do-it', version: 1, owner: 'spec', schema } as const;

const Rare = { ...DoIt, type: 'spec.rare' } as const;

const gate = new AbortController();
async function handler({ data, progress, signal }: TaskContext<{ n: number }>): Promise<unknown> {
  progress(data.n, 4);
  if (!gate.signal.aborted) await once(AbortSignal.any([gate.signal, signal]), 'abort');
  if (signal.aborted) throw signal.reason;
  return { n: data.n };
}

@Module({
  imports: [TasksModule.forRoot()],
  providers: [
    { provide: 'task', inject: [Tasks], useFactory: (tasks: Tasks) => tasks.handle(DoIt, handler) ?? true },
    {
      provide: 'rare task',
      inject: [Tasks],
      useFactory: (tasks: Tasks) => tasks.handle(Rare, handler, { rateLimit: '1/d' }) ?? true,
    },
  ],
})
class SpecModule {}

let database: TestDatabase;
let service: RunningService;
const commands = new MemoryCommandTransport(new MemoryCommandBroker());

beforeAll(async () => {
  database = await createTestDatabase();
  const environment = { DATABASE_URL: database.url, HOST: '127.0.0.1', PORT: '0', LOG_LEVEL: 'silent' };
  service = await startService(
    {
      ...{ name: 'spec', description: 'A service of a spec.', defaultPort: 0, settings: baseSettings },
      ...{ entities: [], contracts: {}, migrations: [CreateTaskTable1760000000005], module: () => SpecModule },
    },
    { settings: readSettings(baseSettings, environment), transports: { commands, events: new MemoryEventTransport() } },
  );
});
afterAll(async () => {
  await service.stop();
  await database.drop();
});

const ask = async (path: string, body?: object) => {
  const headers = { 'content-type': 'application/json' };
  const post = { method: 'POST', headers, body: JSON.stringify(body) };
  const response = await fetch(`${service.managementUrl}/tasks${path}`, body ? post : {});
  return { status: response.status, body: await response.json() };
};
const send = async (n: number, { type }: { readonly type: string } = DoIt) => {
  const message = createMessage({ type, version: 1, source: 'spec', data: { n } });
  await commands.send(message);
  return message.id;
};

it('tells how tasks stand, ends one, and streams the progress of another until it is over', async () => {
  const [one, other] = [await send(1), await send(2)];
  const progress = { current: 1, total: 4, percent: 25 };
  await eventually(async () => expect((await ask(`/${one}`)).body).toMatchObject({ state: 'PROGRESS', progress }));
  expect((await ask('/active')).body).toHaveLength(2);
  expect((await ask(`/${one}/result?timeout=0s`)).body).toMatchObject({ state: 'PROGRESS' });
  const events = fetch(`${service.managementUrl}/tasks/${one}/events`).then((response) => response.text());
  const revoked = await ask(`/${other}/revoke`, { terminate: true, reason: 'a mistake' });
  expect(revoked).toMatchObject({ status: 200, body: { state: 'REVOKED', error: 'a mistake' } });
  gate.abort();
  expect((await ask(`/${one}/result?timeout=30s`)).body).toMatchObject({ state: 'SUCCESS', result: { n: 1 } });
  const states = [...(await events).matchAll(/"state":"(\w+)"/g)].map(([, state]) => state);
  expect([states.at(0), states.at(-1)]).toEqual(['PROGRESS', 'SUCCESS']);
  expect((await ask('?state=REVOKED&type=spec.do-it')).body).toMatchObject([{ id: other }]);
  expect((await ask('/scheduled')).body).toEqual([]);
});

it('tells when what waits for its rate limit is due', async () => {
  const ids = [await send(1, Rare), await send(1, Rare)];
  await eventually(async () => expect((await ask('/scheduled')).body).toHaveLength(1));
  const [waiting] = (await ask('/scheduled')).body as { id: string; waitsFor: string; dueAt: string }[];
  expect(waiting).toMatchObject({ id: expect.stringMatching(ids.join('|')), waitsFor: 'rate limit' });
  expect(new Date(waiting!.dueAt).getTime()).toBeGreaterThan(Date.now() + 80_000_000);
});

it('refuses what makes no sense', async () => {
  const id = await send(3);
  await ask(`/${id}/result?timeout=30s`);
  const late = await ask(`/${id}/revoke`, { reason: 'late' });
  expect(late).toMatchObject({ status: 409, body: { detail: expect.stringContaining('is over') } });
  expect(await ask(`/${id}/revoke`, {})).toMatchObject({ status: 400, body: { errors: [{ field: 'reason' }] } });
  expect((await ask(`/${id}/result?timeout=90s`)).status).toBe(400);
  expect((await ask('?state=LOST')).status).toBe(400);
  expect((await ask('/unheard-of')).body).toMatchObject({ state: 'PENDING', name: null });
});

it('refuses what cannot be stored, and stores nothing of it', async () => {
  for (const path of ['/a%00', '?type=a%00', '?after=%00', '/a%00/result']) {
    expect([path, (await ask(path)).status]).toEqual([path, 400]);
  }
  for (const [id, reason] of [
    ['a', '\u0000'],
    ['a', 'x\ud800'],
    ['a%00', 'x'],
    ['line%0abreak', 'x'],
  ]) {
    expect([id, (await ask(`/${id}/revoke`, { reason })).status]).toEqual([id, 400]);
  }
  const { dataSource } = service.messaging;
  expect(await dataSource.query(`SELECT id FROM task WHERE id ~ '^(a|line)'`)).toEqual([]);
});

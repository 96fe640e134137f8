import { defineCommand, StartWorkflow, TimerFired } from '@starter/contracts';
import {
  commandsExchange,
  done,
  MemoryCommandTransport,
  MemoryEventTransport,
  newMessageId,
  replyFor,
  toMessage,
  type Message,
} from '@starter/messaging';
import { readSettings, startService, type RunningService } from '@starter/service';
import { createTestDatabase, eventually, type TestDatabase } from '@starter/testing';
import { DataSource } from 'typeorm';
import { z } from 'zod';
import { orchestrator } from '../../index.js';
import { chain, fixed, sleep, task, workflow, type AnyDraft } from '../definition/builder.js';

const Do = defineCommand('timers.do', { version: 1, owner: 'spec', schema: z.object({}) });
const commands = new MemoryCommandTransport();
const events = new MemoryEventTransport();
let database: TestDatabase;
let service: RunningService;
let asked: Message[] = [];
/** Whether a request is answered, by how many there were before. */
let answers: (before: number) => 'done' | 'failed' | 'silent' = () => 'done';

beforeAll(async () => {
  database = await createTestDatabase();
  const queue = 'spec.commands';
  await commands.declare({
    exchanges: [{ name: commandsExchange, type: 'direct' }],
    queues: [{ name: queue }],
    bindings: [{ exchange: commandsExchange, queue, routingKey: Do.type }],
  });
  await commands.consume(queue, async ({ message }) => {
    const answer = answers(asked.length);
    asked.push(message);
    const reply = replyFor(message, answer === 'done' ? { result: null } : { failure: 'not now' }, 'spec');
    if (reply && message.replyTo && answer !== 'silent') {
      await commands.send(reply, { routingKey: message.replyTo.address });
    }
    return done;
  });
  service = await start();
});

afterAll(async () => {
  await service?.stop();
  await Promise.all([commands.close(), events.close()]);
  await database?.drop();
});

async function start(): Promise<RunningService> {
  const settings = readSettings(orchestrator.settings, { DATABASE_URL: database.url, PORT: '0', LOG_LEVEL: 'silent' });
  return startService(orchestrator, { settings, transports: { commands, events } });
}

async function begin(build: () => AnyDraft): Promise<string> {
  asked = [];
  const workflowId = newMessageId();
  const { definition } = workflow('timed', { input: z.object({}) }, build);
  const draft = StartWorkflow.of({ workflowId, workflow: 'timed', definition, input: {} });
  await commands.send(toMessage(draft, { source: 'spec' }));
  return workflowId;
}

const stateOf = async (id: string) => (await (await fetch(`${service.url}/workflows/${id}`)).json()) as object;
const until = (id: string, state: string) => eventually(async () => expect(await stateOf(id)).toMatchObject({ state }));
const timers = (id: string) =>
  service.app.get(DataSource).query<unknown[]>('SELECT * FROM workflow_timer WHERE workflow_id = $1', [id]);

it('tries again after the backoff, and goes on after a sleep', async () => {
  answers = (before) => (before === 0 ? 'failed' : 'done');
  const id = await begin(() =>
    chain(task(Do, {}).retry({ attempts: 2, backoff: fixed('300ms') }), sleep('300ms'), task(Do, {})),
  );
  await until(id, 'completed');
  expect(asked).toHaveLength(3);
  expect(await timers(id)).toEqual([]);
});

it('fails a task that nobody answers in time, and takes its timers away with the workflow', async () => {
  answers = () => 'silent';
  const id = await begin(() => chain(task(Do, {}).timeout('200ms')).timeout('1h'));
  await until(id, 'failed');
  expect(await timers(id)).toEqual([]);
});

it('fires what became due while no instance was running, once, however many instances there are', async () => {
  answers = () => 'done';
  const id = await begin(() => chain(sleep('1h'), task(Do, {})));
  await eventually(async () => expect(await timers(id)).toHaveLength(1));
  await service.stop();
  const outside = await new DataSource({ type: 'postgres', url: database.url }).initialize();
  await outside.query(`UPDATE workflow_timer SET due_at = due_at - interval '61 minutes'`);
  await outside.destroy();
  service = await start();
  const second = await start();
  await until(id, 'completed');
  await second.stop();
  expect(asked).toHaveLength(1);
});

it.each([3_600_000, -3_600_000])(
  'keeps to the clock of the database when that of the service jumps by %d ms',
  async (jump) => {
    answers = () => 'done';
    const now = Date.now;
    const id = await begin(() => chain(sleep('1h'), task(Do, {})));
    await eventually(async () => expect(await timers(id)).toHaveLength(1));
    Date.now = () => now() + jump;
    try {
      const soon = await begin(() => chain(sleep('300ms'), task(Do, {})));
      await until(soon, 'completed');
      expect(await stateOf(id)).toMatchObject({ state: 'running' });
      expect(await timers(id)).toHaveLength(1);
    } finally {
      Date.now = now;
    }
  },
);

it('ignores a timer that comes twice, or for nobody', async () => {
  answers = () => 'done';
  const id = await begin(() => chain(sleep('200ms'), sleep('1h')));
  await eventually(async () =>
    expect((await timers(id)).map((row) => (row as { timer_id: string }).timer_id)).toEqual(['sleep/0.1']),
  );
  for (const timerId of ['sleep/0.0', 'sleep/0.7', 'retry/0/run/2']) {
    await commands.send(toMessage(TimerFired.of({ workflowId: id, timerId }), { source: 'spec' }));
  }
  await commands.send(toMessage(TimerFired.of({ workflowId: id, timerId: 'sleep/0.1' }), { source: 'spec' }));
  await until(id, 'completed');
});

import { defineCommand, StartWorkflow, TimerFired } from '@starter/contracts';
import { newMessageId, toMessage, type Message } from '@starter/messaging';
import type { RunningService } from '@starter/service';
import { eventually, ServiceBackends } from '@starter/testing';
import { DataSource } from 'typeorm';
import { z } from 'zod';
import { orchestrator } from '@starter/orchestrator';
import { chain, fixed, sleep, task, workflow, type AnyDraft } from '../definition/builder.js';
import { anyDue, take } from './timer-poller.js';

const Do = defineCommand('timers.do', { version: 1, owner: 'spec', schema: z.object({}) });
let backends: ServiceBackends;
let service: RunningService;
let asked: Message[] = [];
/** Whether a request is answered, by how many there were before. */
let answers: (before: number) => 'done' | 'failed' | 'silent' = () => 'done';

beforeAll(async () => {
  backends = await ServiceBackends.open();
  await backends.answer([Do.type], (message) => {
    const answer = answers(asked.length);
    asked.push(message);
    if (answer === 'silent') return [];
    return [answer === 'done' ? { result: null } : { failure: 'not now' }];
  });
  service = await backends.start(orchestrator);
});
afterAll(async () => {
  await service?.stop();
  await backends?.close();
});

async function begin(build: () => AnyDraft): Promise<string> {
  asked = [];
  const workflowId = newMessageId();
  const { definition } = workflow('timed', { input: z.object({}) }, build);
  const draft = StartWorkflow.of({ workflowId, workflow: 'timed', definition, input: {} });
  await backends.commands.send(toMessage(draft, { source: 'spec' }));
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
  const outside = await new DataSource({ type: 'postgres', url: backends.database.url }).initialize();
  await outside.query(`UPDATE workflow_timer SET due_at = due_at - interval '61 minutes'`);
  await outside.destroy();
  service = await backends.start(orchestrator);
  const second = await backends.start(orchestrator);
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
    await backends.commands.send(toMessage(TimerFired.of({ workflowId: id, timerId }), { source: 'spec' }));
  }
  await backends.commands.send(toMessage(TimerFired.of({ workflowId: id, timerId: 'sleep/0.1' }), { source: 'spec' }));
  await until(id, 'completed');
});

it('reads what is due, however many timers there are that are not', async () => {
  const dataSource = service.app.get(DataSource);
  const pagesOf = async (text: string, ...values: number[]) => {
    const runner = dataSource.createQueryRunner();
    try {
      await runner.query('BEGIN');
      await runner.query(`PREPARE measured AS ${text}`);
      const call = values.length > 0 ? `measured(${values.join()})` : 'measured';
      const [row] = await runner.query(`EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE ${call}`);
      const { Plan: plan } = row['QUERY PLAN'][0];
      return plan['Shared Hit Blocks'] + plan['Shared Read Blocks'];
    } finally {
      await runner.query('ROLLBACK');
      await runner.query('DEALLOCATE ALL');
      await runner.release();
    }
  };
  await dataSource.query(
    `INSERT INTO workflow_timer SELECT gen_random_uuid(), 'sleep/0', now() + interval '6 days' + n * interval '1 s'
       FROM generate_series(1, 100000) AS n`,
  );
  try {
    await dataSource.query('ANALYZE workflow_timer');
    expect(await pagesOf(anyDue.text)).toBeLessThan(20);
    expect(await pagesOf(take.text, 500)).toBeLessThan(20);
  } finally {
    await dataSource.query(`DELETE FROM workflow_timer WHERE due_at > now() + interval '5 days'`);
  }
});

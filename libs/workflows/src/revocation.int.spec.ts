import { defineCommand, StartWorkflow } from '@starter/contracts';
import {
  connectRabbitMq,
  CreateMessagingTables1760000000001,
  deadLetterQueue,
  MemoryCommandBroker,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  newMessageId,
  silentLogger,
  toMessage,
  type CommandTransport,
} from '@starter/messaging';
import type { RunningService } from '@starter/service';
import { CreateTaskTable1760000000005, Tasks, type TaskHandler } from '@starter/tasks';
import { eventually, openTestDataSource, ServiceBackends, uniqueName, type TestDataSource } from '@starter/testing';
import amqp from 'amqplib';
import { once } from 'node:events';
import { z } from 'zod';
import { orchestrator } from '@starter/orchestrator';
import { fixed, group, task, workflow } from './definition/builder.js';

const url = process.env['RABBITMQ_URL'];
const brokers: [string, () => () => Promise<CommandTransport>][] = [
  [
    'memory',
    () => {
      const broker = new MemoryCommandBroker();
      return () => Promise.resolve(new MemoryCommandTransport(broker));
    },
  ],
];
if (url) brokers.push(['rabbitmq', () => () => connectRabbitMq({ url })]);

describe.each(brokers)('a workflow and the tasks of another service, over %s', (_, newBroker) => {
  const worker = uniqueName('worker');
  const Work = defineCommand(`${worker}.work`, { version: 1, owner: worker, schema: z.object({ n: z.int() }) });
  const Plain = defineCommand(`${worker}.plain`, { version: 1, owner: worker, schema: z.object({ n: z.int() }) });
  let backends: ServiceBackends;
  let service: RunningService;
  let database: TestDataSource;
  let messaging: Messaging;
  let tasks: Tasks;
  let transport: CommandTransport;
  let handler: TaskHandler<{ n: number }>;
  let plain = 0;

  beforeAll(async () => {
    const connect = newBroker();
    backends = await ServiceBackends.open(await connect());
    service = await backends.start(orchestrator);
    database = await openTestDataSource([CreateMessagingTables1760000000001, CreateTaskTable1760000000005]);
    transport = await connect();
    messaging = new Messaging({
      ...{ service: worker, dataSource: database.dataSource, commands: transport, events: new MemoryEventTransport() },
      ...{ logger: silentLogger, partitions: 1, drainMs: 500 },
    });
    tasks = new Tasks(messaging);
    tasks.handle(Work, (context) => handler(context));
    messaging.commands.handle(Plain, async () => void (plain += 1));
    await messaging.onApplicationBootstrap();
  }, 60_000);
  afterAll(async () => {
    await messaging?.beforeApplicationShutdown();
    await transport?.close();
    await database?.close();
    await service?.stop();
    await backends?.close();
    if (!url) return;
    const connection = await amqp.connect(url);
    const channel = await connection.createChannel();
    for (const queue of ['orchestrator.commands', `${worker}.commands`]) {
      for (const name of [queue, deadLetterQueue(queue)]) await channel.deleteQueue(name);
    }
    await connection.close();
  });

  const begin = async () => {
    const workflowId = newMessageId();
    const { definition } = workflow('revoked', { input: z.object({}) }, () =>
      group(task(Work, { n: 1 }).retry({ attempts: 3, backoff: fixed('0s') }), task(Plain, { n: 2 })),
    );
    const draft = StartWorkflow.of({ workflowId, workflow: 'revoked', definition, input: {} });
    await transport.send(toMessage(draft, { source: 'spec' }));
    return workflowId;
  };
  const read = async (id: string) =>
    (await (await fetch(`${service.url}/workflows/${id}`)).json()) as {
      steps: { command: string; requestId: string; state: string }[];
    };
  const taskOf = async (id: string) => (await read(id)).steps.find(({ command }) => command === Work.type)!.requestId;
  const running = () => eventually(async () => expect(await tasks.active()).toHaveLength(1));
  const cancel = async (id: string, body: object = {}) => {
    const response = await fetch(`${service.url}/workflows/${id}/cancel`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ reason: 'a mistake', ...body }),
    });
    expect(response.status).toBe(202);
  };
  const ends = async (id: string, task: object) => {
    await eventually(async () => expect(await read(id)).toMatchObject({ state: 'failed' }));
    expect(await tasks.result(await taskOf(id), { timeoutMs: 20_000 })).toMatchObject(task);
  };

  it('aborts the signal of a task that runs when the workflow is cancelled', async () => {
    const reasons: unknown[] = [];
    handler = async ({ signal }) => {
      await once(signal, 'abort');
      reasons.push(signal.reason);
      throw signal.reason;
    };
    const id = await begin();
    await running();
    await cancel(id);
    await ends(id, { state: 'REVOKED', error: `workflow ${id}: cancelled: a mistake` });
    expect(reasons).toEqual([expect.objectContaining({ name: 'TaskRevokedError' })]);
    // The answer of the service is late, and that is all: nothing is asked for again.
    await eventually(async () => {
      const { steps } = await read(id);
      expect(steps.filter(({ command }) => command === Work.type)).toMatchObject([{ state: 'failed', revoked: true }]);
    });
    // What is no task is left alone.
    await eventually(() => expect(plain).toBe(1));
  });

  it('fences what a terminated one still does', async () => {
    const gate = new AbortController();
    const late: Promise<unknown>[] = [];
    handler = async ({ complete }) => {
      await once(gate.signal, 'abort');
      late.push(complete(() => Promise.resolve('done after all')));
      await late[0];
    };
    const id = await begin();
    await running();
    await cancel(id, { path: '0.0', terminate: true });
    await ends(id, { state: 'REVOKED' });
    gate.abort();
    await eventually(() => expect(late).toHaveLength(1));
    await expect(late[0]).rejects.toThrow();
    expect(await tasks.find(await taskOf(id))).toMatchObject({ state: 'REVOKED', result: null });
  });

  it('fails at once when somebody revokes the task at its service, however many attempts are left', async () => {
    let calls = 0;
    handler = async ({ signal }) => {
      calls += 1;
      await once(signal, 'abort');
      throw signal.reason;
    };
    const id = await begin();
    await running();
    await tasks.revoke(await taskOf(id), { reason: 'by hand' });
    await ends(id, { state: 'REVOKED' });
    expect(await read(id)).toMatchObject({ reason: expect.stringContaining('by hand') as string });
    expect(calls).toBe(1);
  });

  it('shows a command that waits for an operator of its service, until it was redriven and answered', async () => {
    const broken = new AbortController();
    handler = () => (broken.signal.aborted ? Promise.resolve('done') : Promise.reject(new RangeError('no such row')));
    const id = await begin();
    const step = async () => {
      const { steps } = (await read(id)) as unknown as { steps: { command: string; state: string; held?: object }[] };
      return steps.find(({ command }) => command === Work.type);
    };
    await eventually(async () =>
      expect(await step()).toMatchObject({
        state: 'requested',
        held: {
          ...{ service: worker, status: 'dead-letter', reason: expect.stringContaining('no such row') as string },
          since: expect.any(String) as string,
        },
      }),
    );
    broken.abort();
    await messaging.deadLetters.redrive('all');
    await eventually(async () => expect(await step()).toMatchObject({ state: 'succeeded' }));
    expect(await step()).not.toHaveProperty('held');
  });
});

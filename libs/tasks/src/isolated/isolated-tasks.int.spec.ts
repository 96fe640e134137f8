import { eventually, openTestDataSource, type TestDataSource } from '@starter/testing';
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import {
  createMessage,
  CreateMessagingTables1760000000001,
  MemoryCommandBroker,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  silentLogger,
} from '@starter/messaging';
import { CreateTaskTable1760000000005 } from '../create-task-table.migration.js';
import type { TaskOptions } from '../task-context.js';
import { Tasks } from '../tasks.js';
import type { IsolatedTask } from './isolated-tasks.js';

/** What is asked of the handler below. */
const schema = z.strictObject({
  what: z.enum(['report', 'spin', 'crash', 'leave', 'ask']),
  at: z.codec(z.iso.datetime(), z.date(), { decode: (text) => new Date(text), encode: (date) => date.toISOString() }),
});

// JavaScript and not a function of this file: it is loaded by a process that knows nothing of this one.
const source = `
import { threadId } from 'node:worker_threads';
import { once } from 'node:events';
export default async ({ data, attempt, savedState, signal, progress, saveState, retry }) => {
  const worker = process.pid + '/' + threadId;
  progress(1, 2, { worker });
  if (data.what === 'ask' && attempt === 1) retry(10);
  if (data.what === 'leave') { await once(signal, 'abort'); throw signal.reason; }
  await saveState([...(savedState ?? []), worker]);
  if (data.what === 'crash' && attempt === 1) process.exit(7);
  if (data.what === 'spin' && attempt === 1) for (;;) ;
  return { worker, saved: savedState, isDate: data.at instanceof Date, at: data.at };
};`;
const module = new URL(`data:text/javascript,${encodeURIComponent(source)}`);

describe.each(['process', 'thread'] as const)('a task in a %s of its own', (isolation) => {
  let database: TestDataSource;
  let stop: () => Promise<void>;
  beforeEach(async () => {
    database = await openTestDataSource([CreateMessagingTables1760000000001, CreateTaskTable1760000000005]);
  });
  afterEach(async () => {
    await stop();
    await database.close();
  });

  async function serve(task: Partial<IsolatedTask> = {}, options: TaskOptions = {}) {
    const service = `spec-${randomUUID()}`;
    const type = `${service}.do-it`;
    const broker = new MemoryCommandBroker();
    const transport = new MemoryCommandTransport(broker);
    const events = new MemoryEventTransport();
    const messaging = new Messaging({
      ...{ service, dataSource: database.dataSource, commands: transport, events, logger: silentLogger, partitions: 1 },
      drainMs: 500,
    });
    const failurePolicy = { maxRetries: 1, backoff: { baseMs: 10, jitter: 0 } };
    const definition = { kind: 'command', type, version: 1, owner: 'test', schema } as const;
    const tasks = new Tasks(messaging);
    tasks.handle(definition, { module, isolation, ...task }, { failurePolicy, ...options });
    const other = { kind: 'command', type: `${service}.other`, version: 1, owner: 'test', schema } as const;
    let others = 0;
    messaging.commands.handle(other, async () => void (others += 1));
    await messaging.onApplicationBootstrap();
    stop = async () => {
      await messaging.beforeApplicationShutdown();
      await transport.close();
    };
    const send = async (what: string, name = type) => {
      const data = { what, at: '2026-11-26T01:02:03Z' };
      const message = createMessage({ type: name, version: 1, source: 'spec', data });
      await transport.send(message);
      return message.id;
    };
    const resultOf = async (id: string) => tasks.result(id, { timeoutMs: 60_000 });
    return {
      ...{ tasks, broker, queue: `${service}.tasks.${type}` },
      inHand: () => messaging.inHand[`${service}.tasks.${type}`],
      send,
      resultOf,
      sendOther: () => send('report', other.type),
      others: () => others,
    };
  }

  it('gets dates as dates, and another worker after so many tasks', async () => {
    const { send, resultOf } = await serve({ recycleAfter: 2 });
    const ids = [await send('report'), await send('report'), await send('report')];
    const ends = await Promise.all(ids.map(resultOf));
    const result = { isDate: true, at: '2026-11-26T01:02:03.000Z' };
    for (const end of ends) expect(end).toMatchObject({ state: 'SUCCESS', result });
    const workers = ends.map((end) => (end.result as { worker: string }).worker);
    expect([workers[0] === workers[1], workers[1] === workers[2]]).toEqual([true, false]);
    expect(workers).not.toContain(`${process.pid}/0`);
  });

  it('can block its worker, which is killed at the hard limit, while the service handles others; then it goes on', async () => {
    const { send, resultOf, sendOther, others, tasks } = await serve(
      {},
      { timeLimit: { softMs: 3_000, hardMs: 6_000 } },
    );
    const id = await send('spin');
    await eventually(async () => expect(await tasks.active()).toMatchObject([{ id, attempt: 1 }]));
    await sendOther();
    await eventually(() => expect(others()).toBe(1));
    expect(await tasks.find(id)).toMatchObject({ attempt: 1, endedAt: null });
    const { attempt, result } = await resultOf(id);
    expect(attempt).toBe(2);
    const { worker, saved } = result as { worker: string; saved: string[] };
    expect([saved.length, saved.includes(worker)]).toEqual([1, false]);
  });

  it('are as many in hand as there are workers, in a queue of their own', async () => {
    const { send, tasks, inHand, broker, queue } = await serve({ size: 1 });
    const ids = await Promise.all(Array.from({ length: 5 }, () => send('leave')));
    await eventually(async () => expect(await tasks.active()).toHaveLength(1));
    expect([inHand(), broker.messages(queue).length]).toEqual([1, 4]);
    for (const id of ids) await tasks.revoke(id, { reason: 'enough' });
  });

  it('can take its worker down with it: that attempt has failed', async () => {
    const { send, resultOf } = await serve();
    expect(await resultOf(await send('crash'))).toMatchObject({ state: 'SUCCESS', attempt: 2 });
    expect(await resultOf(await send('ask'))).toMatchObject({ state: 'SUCCESS', attempt: 2 });
  });

  it('tells its progress, and hears that it is revoked', async () => {
    const { send, resultOf, tasks } = await serve();
    const id = await send('leave');
    await eventually(async () =>
      expect(await tasks.find(id)).toMatchObject({ state: 'PROGRESS', progress: { percent: 50 } }),
    );
    await tasks.revoke(id, { reason: 'enough' });
    expect(await resultOf(id)).toMatchObject({ state: 'REVOKED' });
  });
});

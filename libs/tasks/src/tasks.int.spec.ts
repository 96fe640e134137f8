import { eventually, openTestDataSource, warningsDuring, type TestDataSource } from '@starter/testing';
import { randomUUID } from 'node:crypto';
import { once, setMaxListeners } from 'node:events';
import { z } from 'zod';
import {
  backoffDelay,
  CommandFailed,
  CommandSucceeded,
  type CommandTransport,
  connectRabbitMq,
  createMessage,
  RevokeTask,
  revocationAddress,
  CreateMessagingTables1760000000001,
  MemoryCommandBroker,
  MemoryCommandTransport,
  MemoryEventTransport,
  type Message,
  Messaging,
  type MessagingOptions,
  silentLogger,
  TransientError,
  ValidationError,
} from '@starter/messaging';
import { CreateTaskTable1760000000005 } from './create-task-table.migration.js';
import { defaultTaskPolicy, TaskRevokedError, type TaskHandler, type TaskOptions } from './task-context.js';
import { TaskEndedError } from './task-control.js';
import { Tasks, type TasksOptions } from './tasks.js';

const url = process.env['RABBITMQ_URL'];
const brokers: [string, () => () => Promise<CommandTransport>][] = [
  [
    'memory',
    () => {
      const broker = new MemoryCommandBroker();
      return async () => new MemoryCommandTransport(broker);
    },
  ],
];
if (url) brokers.push(['rabbitmq', () => () => connectRabbitMq({ url })]);

const schema = z.strictObject({ n: z.int() });
const never = () => new Promise<never>(() => undefined);
const effect = { name: 'effect', text: 'INSERT INTO effect VALUES ($1)' };

describe.each(brokers)('tasks on %s', (_, newBroker) => {
  let database: TestDataSource;
  let connect: () => Promise<CommandTransport>;
  let service: string;
  let running: { messaging: Messaging; transport: CommandTransport }[];
  /** Answers that the sender got. */
  let answers: Record<string, unknown>[];

  beforeEach(async () => {
    database = await openTestDataSource([CreateMessagingTables1760000000001, CreateTaskTable1760000000005]);
    await database.dataSource.query('CREATE TABLE effect (n int)');
    connect = newBroker();
    service = `spec-${randomUUID()}`;
    [running, answers] = [[], []];
  });
  afterEach(async () => {
    for (const { messaging, transport } of running) {
      await messaging.beforeApplicationShutdown();
      await transport.close();
    }
    await database.close();
  });

  const definition = () => ({ kind: 'command', type: `${service}.do-it`, version: 1, owner: 'test', schema }) as const;

  /** One process of the service, which also gets the answers. */
  async function serve(
    handler: TaskHandler<{ n: number }>,
    options: TaskOptions = {},
    settings: Partial<MessagingOptions & TasksOptions> = {},
  ) {
    const transport = await connect();
    const messaging = new Messaging({
      service,
      dataSource: database.dataSource,
      commands: transport,
      events: new MemoryEventTransport(),
      logger: silentLogger,
      partitions: 1,
      drainMs: 500,
      ...settings,
    });
    running.push({ messaging, transport });
    const failurePolicy = { maxRetries: 2, backoff: { baseMs: 10, jitter: 0 } };
    const tasks = new Tasks(messaging, settings);
    tasks.handle(definition(), handler, { failurePolicy, ...options });
    messaging.commands.handle({ ...definition(), type: `${service}.hangs` }, never, { timeLimit: 'none' });
    const heard = async ({ data }: { data: Record<string, unknown> }) => void answers.push(data);
    const addressed = ({ type }: { type: string }) => ({ routingKey: `${service}.${type}` });
    messaging.commands.handle(CommandSucceeded, heard, addressed(CommandSucceeded));
    messaging.commands.handle(CommandFailed, heard, addressed(CommandFailed));
    await messaging.onApplicationBootstrap();
    const send = async (message: Message) => {
      await transport.send(message);
      return message.id;
    };
    return { messaging, transport, send, tasks };
  }

  const command = (n = 1, fields: Partial<Message> = {}) =>
    createMessage({ type: definition().type, version: 1, source: 'spec', data: { n }, ...fields });
  const asking = (reply: string) => ({ replyTo: { address: `${service}.${reply}`, subject: randomUUID() } });
  const effects = async () =>
    (await database.dataSource.query<{ n: number }[]>('SELECT n FROM effect ORDER BY n')).map(({ n }) => n);

  it('has as many tasks in hand as it performs, in a queue of their own: other commands and revocations overtake them', async () => {
    const begun: number[] = [];
    const { send, tasks, messaging, transport } = await serve(
      async ({ data, signal }) => {
        begun.push(data.n);
        await once(signal, 'abort');
        throw signal.reason;
      },
      {},
      { concurrency: 2, prefetch: 1 },
    );
    const ids = [];
    for (let n = 1; n <= 20; n += 1) ids.push(await send(command(n)));
    await eventually(() => expect(begun).toHaveLength(2));
    expect(messaging.monitor.consumer(`${service}.tasks`).inFlight).toBe(2);
    // The one place of the commands is free, although 18 tasks wait.
    const [first = ''] = ids;
    const data = { taskId: first, command: definition().type, terminate: true, reason: 'a test' };
    const revocation = createMessage({ type: RevokeTask.type, version: 1, source: 'spec', data });
    await transport.send(revocation, { routingKey: revocationAddress(definition().type) });
    expect(await tasks.result(first, { timeoutMs: 20_000 })).toMatchObject({ state: 'REVOKED' });
    await eventually(() => expect(begun).toEqual([1, 2, 3]));
  });

  it('performs many at once without a warning of Node: each listens to a signal of its own', async () => {
    const [gate, count] = [new AbortController(), 40];
    setMaxListeners(count, gate.signal);
    let begun = 0;
    const { send, tasks } = await serve(
      async ({ data }) => {
        begun += 1;
        await once(gate.signal, 'abort');
        return data.n;
      },
      {},
      { concurrency: count },
    );
    const warnings = await warningsDuring(async () => {
      const ids = await Promise.all(Array.from({ length: count }, (_, n) => send(command(n))));
      await eventually(() => expect(begun).toBe(count));
      gate.abort();
      for (const id of ids) expect(await tasks.result(id, { timeoutMs: 20_000 })).toMatchObject({ state: 'SUCCESS' });
    });
    expect(warnings).toEqual([]);
  });

  it('records a task from its start to its result, with progress, and answers its sender', async () => {
    const gate = new AbortController();
    const { send, tasks } = await serve(async ({ data, progress, heartbeat }) => {
      heartbeat();
      progress(1, 3, { at: 'a' });
      await once(gate.signal, 'abort');
      return { doubled: 2 * data.n };
    });
    const message = command(4, asking('command.succeeded'));
    expect(await tasks.find(message.id)).toMatchObject({ state: 'PENDING', name: null });
    await send(message);
    const progress = { current: 1, total: 3, percent: 33, detail: { at: 'a' } };
    const { type: name } = message;
    const wanted = { id: message.id, name, args: { n: 4 }, worker: tasks.worker, attempt: 1 };
    await eventually(async () => expect(await tasks.find(message.id)).toMatchObject({ state: 'STARTED' }));
    await eventually(async () =>
      expect(await tasks.active()).toMatchObject([{ ...wanted, state: 'PROGRESS', progress }]),
    );
    await expect(tasks.result(message.id, { timeoutMs: 1 })).rejects.toThrow('PROGRESS, and was not over within 1 ms');
    gate.abort();
    expect(await tasks.result(message.id, { timeoutMs: 20_000 })).toMatchObject({
      ...{
        ...wanted,
        state: 'SUCCESS',
        result: { doubled: 8 },
        startedAt: expect.any(Date),
        endedAt: expect.any(Date),
      },
    });
    expect(await tasks.active()).toEqual([]);
    await eventually(() => expect(answers).toMatchObject([{ requestId: message.id, result: { doubled: 8 } }]));
  });

  it('is done once, however often it is delivered', async () => {
    let calls = 0;
    const { send, tasks, messaging } = await serve(async ({ data, complete }) => {
      calls += 1;
      await complete((tx) => tx.query(effect, [data.n]));
    });
    const message = command(7);
    await Promise.all([send(message), send(message)]);
    await tasks.result(message.id, { timeoutMs: 20_000 });
    // As after the purge of its row: the inbox knows it for longer.
    await database.dataSource.query('DELETE FROM task');
    await send(message);
    const { counts } = messaging.monitor.consumer(`${service}.tasks`).types.get(message.type) ?? {};
    await eventually(() => expect(counts).toMatchObject({ handled: 1, duplicates: 2 }));
    expect([calls, await effects()]).toEqual([1, [7]]);
  });

  it('gives the next attempt what the one before has saved, and shows when it is due', async () => {
    const seen: unknown[] = [];
    const { send, tasks } = await serve(
      async ({ attempt, savedState, saveState, retry }) => {
        seen.push(savedState);
        await saveState({ reached: attempt });
        if (attempt === 1) retry(3_000, 'the other side is busy');
        if (attempt === 2) throw new TransientError('once more');
        return 'all';
      },
      { failurePolicy: { maxRetries: 2, backoff: { baseMs: 10 } } },
    );
    const id = await send(command());
    const waits = { id, waitsFor: 'retry', dueAt: expect.any(Date), error: expect.stringContaining('is busy') };
    await eventually(async () => expect(await tasks.scheduled()).toMatchObject([waits]));
    expect(await tasks.find(id)).toMatchObject({ state: 'RETRY', attempt: 1 });
    expect(await tasks.result(id, { timeoutMs: 30_000 })).toMatchObject({
      state: 'SUCCESS',
      attempt: 3,
      result: 'all',
    });
    expect(seen).toEqual([null, { reached: 1 }, { reached: 2 }]);
  });

  it('retries three times after 60, 120 and 240 seconds by default', () => {
    const { maxRetries, backoff } = defaultTaskPolicy;
    expect([maxRetries, [1, 2, 3].map((n) => backoffDelay(n, backoff) / 1_000)]).toEqual([3, [60, 120, 240]]);
  });

  it.each([
    ['no retry has helped', () => new TransientError('busy'), 'busy'],
    ['it is refused', () => new ValidationError('no such thing'), 'no such thing'],
    ['the handler has a defect', () => new RangeError('a defect'), 'a defect'],
  ])('is a failure when %s', async (_what, error, text) => {
    const { send, tasks } = await serve(async () => {
      throw error();
    });
    const id = await send(command());
    const ended = await tasks.result(id, { timeoutMs: 20_000 });
    expect(ended).toMatchObject({ state: 'FAILURE', error: expect.stringContaining(text) });
  });

  it('gives up a handler at its hard limit: it saves and commits nothing any more, and the next attempt goes on', async () => {
    const late: Promise<unknown>[] = [];
    const aborted: unknown[] = [];
    const { send, tasks } = await serve(
      async ({ attempt, signal, saveState, inTransaction }) => {
        if (attempt === 2) return 'second';
        await once(signal, 'abort');
        aborted.push(signal.reason);
        await eventually(async () => expect(await tasks.find(id)).toMatchObject({ state: 'SUCCESS' }));
        late.push(
          saveState('late'),
          inTransaction((tx) => tx.query(effect, [1])),
        );
        return 'first';
      },
      { timeLimit: { softMs: 50, hardMs: 300 } },
    );
    const id = await send(command());
    expect(await tasks.result(id, { timeoutMs: 20_000 })).toMatchObject({ result: 'second', attempt: 2 });
    await eventually(() => expect(late).toHaveLength(2));
    const ends = await Promise.allSettled(late);
    expect(ends.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    expect([aborted, await effects()]).toEqual([[expect.objectContaining({ name: 'TimeoutError' })], []]);
  });

  it('never starts what was revoked before it came, and tells the sender', async () => {
    const seen: number[] = [];
    const { send, tasks } = await serve(async ({ data }) => void seen.push(data.n));
    const message = command(1, asking('command.failed'));
    await tasks.revoke(message.id, { reason: 'a mistake' });
    await send(message);
    await send(message);
    await tasks.result(await send(command(2)), { timeoutMs: 20_000 });
    const told = { requestId: message.id, reason: 'revoked: a mistake' };
    await eventually(() => expect(answers).toMatchObject([told]));
    expect(await tasks.find(message.id)).toMatchObject({ state: 'REVOKED', name: message.type, args: { n: 1 } });
    expect(seen).toEqual([2]);
    await expect(tasks.revoke(message.id, { reason: 'again' })).rejects.toThrow(TaskEndedError);
    await expect(tasks.revoke('', { reason: 'x' })).rejects.toThrow(ValidationError);
  });

  it('never starts the next attempt of what was revoked between two', async () => {
    let calls = 0;
    const { send, tasks } = await serve(async ({ retry }) => {
      calls += 1;
      retry(1_000);
    });
    const message = command(1, asking('command.failed'));
    await send(message);
    await eventually(async () => expect(await tasks.scheduled()).toHaveLength(1));
    expect(await tasks.revoke(message.id, { reason: 'enough' })).toMatchObject({ state: 'REVOKED', error: 'enough' });
    await eventually(() => expect(answers).toMatchObject([{ reason: 'revoked: enough' }]));
    await tasks.result(await send({ ...command(), id: message.id }), { timeoutMs: 20_000 });
    expect(calls).toBe(1);
  });

  it('aborts the signal of one that runs when it is revoked', async () => {
    const { send, tasks } = await serve(async ({ signal }) => {
      await once(signal, 'abort');
      throw signal.reason;
    });
    const message = command(1, asking('command.failed'));
    await send(message);
    await eventually(async () => expect(await tasks.active()).toHaveLength(1));
    expect(await tasks.revoke(message.id, { reason: 'not now' })).toMatchObject({ state: 'STARTED', revoked: true });
    expect(await tasks.result(message.id, { timeoutMs: 20_000 })).toMatchObject({ state: 'REVOKED' });
    await eventually(() => expect(answers).toMatchObject([{ reason: expect.stringContaining('not now') }]));
  });

  it('rolls back what a terminated one still does, and tells the sender at once', async () => {
    const gate = new AbortController();
    const late: Promise<unknown>[] = [];
    const reasons: unknown[] = [];
    const { send, tasks } = await serve(async ({ signal, complete, inTransaction }) => {
      signal.addEventListener('abort', () => reasons.push(signal.reason));
      await once(gate.signal, 'abort');
      late.push(
        inTransaction((tx) => tx.query(effect, [1])),
        complete((tx) => tx.query(effect, [2])),
      );
      await never();
    });
    const message = command(1, asking('command.failed'));
    await send(message);
    await eventually(async () => expect(await tasks.active()).toHaveLength(1));
    const terminated = await tasks.revoke(message.id, { terminate: true, reason: 'stop it' });
    expect(terminated).toMatchObject({ state: 'REVOKED', endedAt: expect.any(Date) });
    // It may not have heard of it yet.
    gate.abort();
    await eventually(() => expect(late).toHaveLength(2));
    const ends = await Promise.allSettled(late);
    expect(ends.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
    await eventually(() => expect(answers).toMatchObject([{ reason: 'revoked: stop it' }]));
    await eventually(() => expect(reasons).toEqual([expect.any(TaskRevokedError)]));
    expect([await effects(), (await tasks.find(message.id)).state]).toEqual([[], 'REVOKED']);
  });

  it('commits nothing of a transaction in which it was terminated', async () => {
    const branches: Promise<unknown>[] = [];
    const { send, tasks } = await serve(({ complete }) =>
      complete((tx) => {
        const branch = (async () => {
          await tx.query(effect, [1]);
          await tx.query({ name: 'spec-sleep', text: 'SELECT pg_sleep(5)' }).catch(() => undefined);
          await tx.query(effect, [2]);
        })();
        branches.push(branch);
        return branch;
      }),
    );
    const message = command(1);
    await send(message);
    await eventually(() => expect(branches).toHaveLength(1));
    await tasks.revoke(message.id, { terminate: true, reason: 'stop it' });
    await Promise.allSettled(branches);
    expect([await effects(), (await tasks.find(message.id)).state]).toEqual([[], 'REVOKED']);
  });

  describe('taken back by a command of its sender', () => {
    const revocation = (taskId: string, terminate = false, type: string = definition().type) =>
      createMessage({
        type: RevokeTask.type,
        version: 1,
        source: 'spec',
        data: { taskId, command: type, terminate, reason: 'a mistake' },
      });
    const told = (id: string) => ({
      requestId: id,
      reason: expect.stringContaining('a mistake') as string,
      revoked: true,
    });

    it('never starts when it has not, and the sender is told so', async () => {
      const seen: number[] = [];
      const { send, transport, tasks } = await serve(async ({ data }) => void seen.push(data.n));
      const message = command(1, asking('command.failed'));
      const revoke = revocation(message.id);
      // Twice, and before the task has come.
      for (let times = 0; times < 2; times += 1)
        await transport.send(revoke, { routingKey: revocationAddress(message.type) });
      await eventually(async () => expect(await tasks.find(message.id)).toMatchObject({ state: 'REVOKED' }));
      await send(message);
      await eventually(() => expect(answers).toEqual([told(message.id)]));
      await tasks.result(await send(command(2)), { timeoutMs: 20_000 });
      expect(seen).toEqual([2]);
    });

    it.each([false, true])('is told when it runs (terminate: %s)', async (terminate) => {
      const ends: string[] = [];
      const { send, transport, tasks } = await serve(async ({ signal, complete }) => {
        await once(signal, 'abort');
        await complete((tx) => tx.query(effect, [1])).catch((error: Error) => ends.push(error.name));
        throw signal.reason;
      });
      const message = command(1, asking('command.succeeded'));
      await send(message);
      await eventually(async () => expect(await tasks.active()).toHaveLength(1));
      await transport.send(revocation(message.id, terminate), { routingKey: revocationAddress(message.type) });
      const state = terminate ? 'REVOKED' : 'SUCCESS';
      expect(await tasks.result(message.id, { timeoutMs: 20_000 })).toMatchObject({ state });
      await eventually(async () =>
        expect([await effects(), ends]).toEqual(terminate ? [[], ['TaskRevokedError']] : [[1], []]),
      );
    });

    it('changes nothing where it is over, or no task', async () => {
      const { send, transport, tasks, messaging } = await serve(async () => 'done');
      const id = await send(command());
      await tasks.result(id, { timeoutMs: 20_000 });
      const revocations = [revocation(id), revocation(randomUUID(), true, 'no.task')];
      for (const one of revocations) await transport.send(one, { routingKey: revocationAddress(definition().type) });
      const counted = messaging.monitor.consumer(messaging.commands.queue).types.get(RevokeTask.type);
      await eventually(() => expect(counted?.counts).toMatchObject({ duplicates: 2, deadLettered: 0 }));
      expect(await tasks.list()).toMatchObject([{ id, state: 'SUCCESS' }]);
    });
  });

  it('goes on in another process with what was saved, and fences the process that is gone', async () => {
    const first = new AbortController();
    const lost: Promise<unknown>[] = [];
    const one = await serve(async ({ saveState, complete, data }) => {
      await saveState({ rows: 5 });
      await once(first.signal, 'abort');
      lost.push(complete((tx) => tx.query(effect, [data.n])));
    });
    const message = command(1);
    await one.send(message);
    const saved = 'SELECT saved_state FROM task WHERE saved_state IS NOT NULL';
    await eventually(async () => expect(await database.dataSource.query(saved)).toHaveLength(1));
    // It is told to stop and does not end in time; what it had in hand goes to the next one.
    await one.messaging.beforeApplicationShutdown();
    const two = await serve(async ({ savedState, complete }) =>
      complete(async (tx) => (await tx.query(effect, [2]), savedState)),
    );
    const ended = await two.tasks.result(message.id, { timeoutMs: 20_000 });
    expect(ended).toMatchObject({ state: 'SUCCESS', result: { rows: 5 } });
    first.abort();
    await eventually(() => expect(lost).toHaveLength(1));
    await expect(lost[0]).rejects.toThrow('another process has taken it over');
    expect(await effects()).toEqual([2]);
  });

  it('says that nothing hangs while a task is silent within its limits, and that something does beside it', async () => {
    const gate = new AbortController();
    const wait = async () => void (await once(gate.signal, 'abort'));
    const { send, messaging, transport, tasks } = await serve(wait, {}, { stalledMs: 200 });
    const id = await send(command());
    await eventually(async () => expect(await tasks.active()).toHaveLength(1));
    const { inFlight, unsettledMs } = messaging.monitor.consumer(`${service}.tasks`);
    expect([inFlight, unsettledMs]).toEqual([1, 0]);
    const other = createMessage({ type: `${service}.hangs`, version: 1, source: 'spec', data: { n: 1 } });
    await transport.send(other);
    await eventually(() => expect(messaging.problems()).toMatchObject([{ part: messaging.commands.queue }]));
    gate.abort();
    await tasks.result(id, { timeoutMs: 20_000 });
  });

  it('shows what waits for its rate limit, and lists by state and page', async () => {
    const { send, tasks } = await serve(async ({ data }) => data.n, { rateLimit: '1/h' });
    const from = Date.now();
    const ids = [await send(command(1)), await send(command(2)), await send(command(3))];
    const waits = { waitsFor: 'rate limit', attempt: 0 };
    await eventually(async () => expect(await tasks.scheduled()).toMatchObject([waits, waits]));
    const hourMs = 3_600_000;
    const [first, second] = (await tasks.scheduled()).map(({ dueAt }) => dueAt.getTime() - from) as [number, number];
    expect(second - first).toBe(hourMs);
    // Both clocks are of this machine.
    expect(first).toBeGreaterThanOrEqual(hourMs);
    expect(first).toBeLessThan(2 * hourMs);
    await eventually(async () => expect(await tasks.list({ state: 'SUCCESS' })).toHaveLength(1));
    await tasks.revoke('no-such-task', { reason: 'in time' });
    const [newest] = await tasks.list({ limit: 1 });
    expect(newest).toMatchObject({ id: 'no-such-task', state: 'REVOKED' });
    const rest = await tasks.list({ after: 'no-such-task', type: definition().type });
    expect(rest.map(({ id }) => ids.includes(id))).toEqual([true]);
  });
});

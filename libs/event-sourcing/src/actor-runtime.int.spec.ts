import { createMessage, CreateMessagingTables1760000000001, TimeoutError, type Message } from '@starter/messaging';
import {
  account,
  Deposit,
  Deposited,
  draft,
  eventually,
  execution,
  largeWithdrawal,
  newBank,
  openTestDataSource,
  Withdraw,
  Withdrawn,
  type TestDataSource,
} from '@starter/testing';
import { randomUUID } from 'node:crypto';
import { apply, defineActor, handle, on, reject } from './actor.js';
import type { ActorRuntimeOptions } from './actor-runtime.js';
import { CreateEventStore1760000000002 } from './create-event-store.migration.js';
import { appendToStream } from './event-store.js';
import type { Execution } from './execution.js';
import { defineProjection, project } from './projection.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateEventStore1760000000002]);
  await database.dataSource.query('CREATE TABLE unique_amount (amount int PRIMARY KEY)');
});
afterAll(() => database.close());

const newRuntime = (options: ActorRuntimeOptions = {}) => newBank(database.dataSource, options);

const eventsOf = (id: string) =>
  database.dataSource.query<{ sequence: string; type: string; causation_id: string }[]>(
    'SELECT sequence, type, causation_id FROM event WHERE stream_id = $1 ORDER BY sequence',
    [`account-${id}`],
  );
const outboxOf = async (correlationId: string) =>
  (
    await database.dataSource.query<{ channel: string; address: string; message: Message }[]>(
      `SELECT channel, address, message FROM outbox WHERE message->>'correlationId' = $1 ORDER BY position`,
      [correlationId],
    )
  ).map(({ channel, address, message }) => ({ channel, address, message }));

it('stores the events and writes them out with the reply and the commands that they set off, in one transaction', async () => {
  const { runtime } = newRuntime();
  const id = randomUUID();
  await runtime.execute(account, execution(Deposit.type, id, 5_000));
  const withdrawal = execution(Withdraw.type, id, 2_000, {
    replyTo: { address: 'teller.replies', subject: 'teller-1' },
  });
  const executed = await runtime.execute(account, withdrawal);
  expect(executed).toMatchObject({ kind: 'applied', state: { balance: 3_000 } });
  expect(await eventsOf(id)).toMatchObject([
    { sequence: '1', type: Deposited.type },
    { sequence: '2', type: Withdrawn.type, causation_id: withdrawal.command.message.id },
  ]);
  const written = await outboxOf(withdrawal.command.message.correlationId);
  expect(written).toMatchObject([
    {
      channel: 'event',
      address: 'bank.events',
      message: { subject: `account-${id}`, sequence: 2, data: { amount: 2_000 } },
    },
    { channel: 'command', address: largeWithdrawal.type, message: { data: { amount: 2_000 } } },
    {
      channel: 'command',
      address: 'teller.replies',
      message: {
        type: 'command.succeeded',
        subject: 'teller-1',
        data: { requestId: withdrawal.command.message.id, result: { amount: 2_000 } },
      },
    },
  ]);
});

it('applies a command that is delivered many times at once, to several processes, once', async () => {
  const id = randomUUID();
  const deposit = execution(Deposit.type, id, 10);
  const processes = Array.from({ length: 4 }, newRuntime);
  const executed = await Promise.all(
    processes.flatMap(({ runtime }) => Array.from({ length: 5 }, () => runtime.execute(account, deposit))),
  );
  expect(executed.filter(({ kind }) => kind === 'applied')).toHaveLength(1);
  expect(executed.filter(({ kind }) => kind === 'duplicate')).toHaveLength(19);
  expect(await eventsOf(id)).toHaveLength(1);
});

it('commits nothing of an attempt that is over, and everything of the others in its batch', async () => {
  const { runtime } = newRuntime();
  const ids = [randomUUID(), randomUUID(), randomUUID()] as const;
  const over = {
    throwIfOver: () => {
      throw new TimeoutError('too late');
    },
  };
  const [first, late, last] = ids.map((id) => execution(Deposit.type, id, 1)) as [Execution, Execution, Execution];
  const executed = await Promise.allSettled([
    runtime.execute(account, first),
    runtime.execute(account, { ...late, fence: over }),
    runtime.execute(account, last),
  ]);
  expect(executed).toMatchObject([
    { value: { kind: 'applied' } },
    { reason: { name: 'TimeoutError' } },
    { value: { kind: 'applied' } },
  ]);
  expect((await Promise.all(ids.map(eventsOf))).map(({ length }) => length)).toEqual([1, 0, 1]);
  // The next attempt is no duplicate.
  expect(await runtime.execute(account, late)).toMatchObject({ kind: 'applied' });
});

it('keeps versions gap-free and loses nothing when four processes hammer one actor', async () => {
  const id = randomUUID();
  const processes = Array.from({ length: 4 }, newRuntime);
  await Promise.all(
    processes.flatMap(({ runtime }) =>
      Array.from({ length: 25 }, () => runtime.execute(account, execution(Deposit.type, id, 1))),
    ),
  );
  const sequences = (await eventsOf(id)).map(({ sequence }) => Number(sequence));
  expect(sequences).toEqual(Array.from({ length: 100 }, (_, index) => index + 1));
  for (const { runtime } of processes) {
    expect(await runtime.read(account, id)).toEqual({ state: { balance: 100 }, sequence: 100 });
  }
});

it('answers and records a refusal, and stores nothing', async () => {
  const { runtime } = newRuntime();
  const id = randomUUID();
  const withdrawal = execution(Withdraw.type, id, 1, { replyTo: { address: 'teller.replies', subject: 't' } });
  expect(await runtime.execute(account, withdrawal)).toEqual({ kind: 'rejected', reason: 'the balance is only 0' });
  expect(await runtime.execute(account, withdrawal)).toEqual({ kind: 'duplicate' });
  expect(await eventsOf(id)).toEqual([]);
  expect(await outboxOf(withdrawal.command.message.correlationId)).toMatchObject([
    { address: 'teller.replies', message: { type: 'command.failed', data: { reason: 'the balance is only 0' } } },
  ]);
  const recorded = await database.dataSource.query<{ reason: string }[]>(
    'SELECT reason FROM inbox_discarded WHERE message_id = $1',
    [withdrawal.command.message.id],
  );
  expect(recorded).toEqual([{ reason: 'the balance is only 0' }]);
});

it('does not refuse on a cached state that another process has moved past', async () => {
  const [here, elsewhere] = [newRuntime().runtime, newRuntime().runtime];
  const id = randomUUID();
  await here.execute(account, execution(Deposit.type, id, 1));
  await elsewhere.execute(account, execution(Deposit.type, id, 99));
  const executed = await here.execute(account, execution(Withdraw.type, id, 100));
  expect(executed).toMatchObject({ kind: 'applied', state: { balance: 0 } });
});

it('lets an inline projection refuse, with nothing of the command stored', async () => {
  const { runtime } = newRuntime();
  runtime.project(
    defineProjection('unique-amount', {
      handlers: on(
        project(Deposited, async (tx, events) => {
          const text = 'INSERT INTO unique_amount SELECT unnest($1::int[]) ON CONFLICT DO NOTHING RETURNING 1';
          const amounts = events.map(({ data }) => data.amount);
          if ((await tx.query({ name: 'unique-amount', text }, [amounts])).length < events.length)
            return reject('taken');
        }),
      ),
    }),
  );
  const ids = Array.from({ length: 10 }, () => randomUUID());
  const executed = await Promise.all(ids.map((id) => runtime.execute(account, execution(Deposit.type, id, 42))));
  expect(executed.filter(({ kind }) => kind === 'applied')).toHaveLength(1);
  expect(executed.filter(({ kind }) => kind === 'rejected')).toHaveLength(9);
  const stored = await Promise.all(ids.map(eventsOf));
  expect(stored.flat()).toHaveLength(1);
});

it('refuses to load an actor whose log holds a type that it does not know', async () => {
  const { runtime } = newRuntime();
  const id = randomUUID();
  const retired = defineActor<null>('account', {
    initialState: null,
    decide: on(handle(Deposit, ({ data }) => [draft({ ...Deposited, type: 'account.retired' }, data)])),
    evolve: on(apply({ ...Deposited, type: 'account.retired' }, () => null)),
  });
  await runtime.execute(retired, execution(Deposit.type, id, 1));
  await expect(newRuntime().runtime.execute(account, execution(Deposit.type, id, 1))).rejects.toThrow(
    'actor account cannot apply account.retired (sequence 1)',
  );
});

it('stores nothing of an event that does not fit its schema', async () => {
  const { runtime } = newRuntime();
  const id = randomUUID();
  const sloppy = defineActor<null>('account', {
    initialState: null,
    decide: on(handle(Deposit, () => [draft(Deposited, { amount: 0.5 })])),
    evolve: on(apply(Deposited, () => null)),
  });
  await expect(runtime.execute(sloppy, execution(Deposit.type, id, 1))).rejects.toThrow('account.deposited v1');
  expect(await eventsOf(id)).toEqual([]);
});

it('lets a decider that throws spoil only its own command, also in company', async () => {
  const { runtime } = newRuntime();
  const moody = defineActor<null>('account', {
    initialState: null,
    decide: on(
      handle(Deposit, ({ data }) => {
        if (data.amount === 13) throw new Error('not 13');
        return [draft(Deposited, data)];
      }),
    ),
    evolve: on(apply(Deposited, () => null)),
  });
  const works = [1, 13, 2, 13, 3].map((amount) => ({ amount, id: randomUUID() }));
  const results = await Promise.allSettled(
    works.map(({ id, amount }) => runtime.execute(moody, execution(Deposit.type, id, amount))),
  );
  expect(results.map(({ status }) => status)).toEqual(['fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled']);
  const stored = await Promise.all(works.map(({ id }) => eventsOf(id)));
  expect(stored.map((events) => events.length)).toEqual([1, 0, 1, 0, 1]);
});

it('stores nothing of a decision that never ends, and goes on with the other commands', async () => {
  const { runtime } = newRuntime({ decideTimeoutMs: 50 });
  const brooding = defineActor<null>('account', {
    initialState: null,
    decide: on(
      handle(Deposit, ({ data }) => {
        while (data.amount === 13);
        return [draft(Deposited, data)];
      }),
    ),
    evolve: on(apply(Deposited, () => null)),
  });
  const works = [1, 13, 2].map((amount) => ({ amount, id: randomUUID() }));
  const results = await Promise.allSettled(
    works.map(({ id, amount }) => runtime.execute(brooding, execution(Deposit.type, id, amount))),
  );
  expect(results).toMatchObject([
    { status: 'fulfilled' },
    { status: 'rejected', reason: { name: 'TimeoutError', message: expect.stringContaining('actor account') } },
    { status: 'fulfilled' },
  ]);
  const stored = await Promise.all(works.map(({ id }) => eventsOf(id)));
  expect(stored.map((events) => events.length)).toEqual([1, 0, 1]);
});

it('refuses a decider that is asynchronous', async () => {
  const { runtime } = newRuntime();
  const id = randomUUID();
  const waiting = defineActor<null>('account', {
    initialState: null,
    decide: on(
      handle(Deposit, (({ data }: { data: { amount: number } }) => Promise.resolve([draft(Deposited, data)])) as never),
    ),
    evolve: on(apply(Deposited, () => null)),
  });
  await expect(runtime.execute(waiting, execution(Deposit.type, id, 1))).rejects.toThrow(
    'actor account decided on account.deposit with a promise; a decider is pure and answers at once',
  );
  expect(await eventsOf(id)).toEqual([]);
});

it('decides many commands of one actor in one transaction, each on what the last one left', async () => {
  const { runtime } = newRuntime();
  const id = randomUUID();
  const first = runtime.execute(account, execution(Deposit.type, id, 10));
  const rest = [
    execution(Withdraw.type, id, 4),
    execution(Withdraw.type, id, 7),
    execution(Deposit.type, id, 1),
    execution(Withdraw.type, id, 7),
  ].map((one) => runtime.execute(account, one));
  expect(await Promise.all([first, ...rest])).toMatchObject([
    { kind: 'applied', state: { balance: 10 } },
    { kind: 'applied', state: { balance: 6 } },
    { kind: 'rejected', reason: 'the balance is only 6' },
    { kind: 'applied', state: { balance: 7 } },
    { kind: 'applied', state: { balance: 0 } },
  ]);
  expect((await eventsOf(id)).map(({ sequence }) => sequence)).toEqual(['1', '2', '3', '4']);
  expect(runtime.metrics.transactions).toBe(1);
});

it('decides again where another process has appended, and trusts its memory only when it is right again', async () => {
  const [here, elsewhere] = [newRuntime().runtime, newRuntime().runtime];
  const [contended, quiet] = [randomUUID(), randomUUID()];
  await here.execute(account, execution(Deposit.type, contended, 1));
  await elsewhere.execute(account, execution(Deposit.type, contended, 2));
  const before = here.metrics.transactions;
  const executed = await Promise.all([
    here.execute(account, execution(Deposit.type, contended, 4)),
    here.execute(account, execution(Deposit.type, quiet, 8)),
  ]);
  expect(executed).toMatchObject([
    { kind: 'applied', state: { balance: 7 } },
    { kind: 'applied', state: { balance: 8 } },
  ]);
  expect(here.metrics).toMatchObject({ conflicts: 1, transactions: before + 2 });
  // From then on it looks into the log first.
  await elsewhere.execute(account, execution(Deposit.type, contended, 16));
  expect(await here.execute(account, execution(Deposit.type, contended, 32))).toMatchObject({ state: { balance: 55 } });
  expect(here.metrics).toMatchObject({ conflicts: 1, transactions: before + 3 });
  expect(await eventsOf(quiet)).toHaveLength(1);
});

it('appends outside of actors only where nobody else has, and without a gap', async () => {
  const { runtime } = newRuntime();
  const id = randomUUID();
  await runtime.execute(account, execution(Deposit.type, id, 1));
  const append = (sequence: number) => {
    const message = createMessage({
      ...Deposited,
      source: 'bank',
      subject: `account-${id}`,
      sequence,
      data: { amount: 1 },
    });
    return appendToStream(database.dataSource, [{ message, command: 'test' }]);
  };
  await append(2);
  expect(await runtime.execute(account, execution(Deposit.type, id, 1))).toMatchObject({ state: { balance: 3 } });
  await expect(append(3)).rejects.toMatchObject({ name: 'ConcurrencyError', code: '40001' });
  await expect(append(5)).rejects.toMatchObject({ name: 'ConcurrencyError', code: '40001' });
});

it('keeps no actor in memory that is over, and loads it when a command comes all the same', async () => {
  const { runtime } = newRuntime();
  const brief = { ...account, isOver: ({ balance }: { readonly balance: number }) => balance >= 10 };
  const id = randomUUID();
  await runtime.execute(brief, execution(Deposit.type, id, 5));
  expect(runtime.metrics).toMatchObject({ active: 1, reloads: 1 });
  await runtime.execute(brief, execution(Deposit.type, id, 5));
  expect(runtime.metrics).toMatchObject({ active: 0, passivated: 0, reloads: 1 });
  expect(await runtime.execute(brief, execution(Withdraw.type, id, 4))).toMatchObject({ state: { balance: 6 } });
  expect(runtime.metrics).toMatchObject({ active: 1, reloads: 2 });
});

it('passivates actors that are too many or idle, and loads them again', async () => {
  const ids = [randomUUID(), randomUUID(), randomUUID()];
  const { runtime: small } = newRuntime({ cachedActors: 2 });
  for (const id of ids) await small.execute(account, execution(Deposit.type, id, 5));
  expect(small.metrics).toMatchObject({ active: 2, passivated: 1 });
  const heavy = randomUUID();
  const { runtime: light } = newRuntime({ cachedBytes: 30 * 500 });
  for (let n = 0; n < 20; n++) await light.execute(account, execution(Deposit.type, randomUUID(), 1));
  for (let n = 0; n < 20; n++) await light.execute(account, execution(Deposit.type, heavy, 1));
  // None counts for more than a tenth: the one with 20 events is as heavy as three of the others, and 27 of these fit beside it.
  expect(light.metrics).toMatchObject({ active: 21, passivated: 0 });
  for (let n = 0; n < 20; n++) await light.execute(account, execution(Deposit.type, randomUUID(), 1));
  expect(light.metrics).toMatchObject({ active: 28, passivated: 13 });
  const { runtime } = newRuntime({ idleMs: 40 });
  for (const id of ids) await runtime.execute(account, execution(Deposit.type, id, 5));
  await eventually(() => expect(runtime.metrics).toMatchObject({ active: 0, passivated: 3 }));
  const [id = ''] = ids;
  expect(await runtime.execute(account, execution(Withdraw.type, id, 5))).toMatchObject({ state: { balance: 5 } });
  expect(runtime.metrics.reloads).toBe(4);
});

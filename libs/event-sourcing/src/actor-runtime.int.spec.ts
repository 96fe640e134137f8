import {
  createMessage,
  CreateMessagingTables1760000000001,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  silentLogger,
  type Message,
} from '@starter/messaging';
import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { apply, defineActor, handle, on, reject } from './actor.js';
import { ActorRuntime } from './actor-runtime.js';
import { CreateEventStore1760000000002 } from './create-event-store.migration.js';
import { defineProjection, project } from './projection.js';

const schema = z.object({ amount: z.int() });
const of = <D extends object>(definition: D, data: { amount: number }) => ({ definition, data });
const Deposit = { kind: 'command', type: 'account.deposit', version: 1, owner: 'bank', schema } as const;
const Withdraw = { kind: 'command', type: 'account.withdraw', version: 1, owner: 'bank', schema } as const;
const Deposited = { kind: 'event', type: 'account.deposited', version: 1, owner: 'bank', schema } as const;
const Withdrawn = { kind: 'event', type: 'account.withdrawn', version: 1, owner: 'bank', schema } as const;
const Alert = { type: 'account.alert', version: 1 };

const account = defineActor<{ balance: number }>('account', {
  initialState: { balance: 0 },
  decide: on(
    handle(Deposit, ({ data }) => [of(Deposited, data)]),
    handle(Withdraw, ({ data }, { balance }) =>
      balance >= data.amount ? [of(Withdrawn, data)] : reject(`the balance is only ${balance}`),
    ),
  ),
  evolve: on(
    apply(Deposited, ({ balance }, { data }) => ({ balance: balance + data.amount })),
    apply(Withdrawn, ({ balance }, { data }) => ({ balance: balance - data.amount })),
  ),
  outgoing: ({ type, data }) => {
    const { amount } = data as { amount: number };
    return type === Withdrawn.type && amount > 1_000 ? [{ ...Alert, id: randomUUID(), data: { amount } }] : [];
  },
});

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateEventStore1760000000002]);
  await database.dataSource.query('CREATE TABLE unique_amount (amount int PRIMARY KEY)');
});
afterAll(() => database.close());

/** A runtime with a cache of its own: what another process would be. Nothing is consumed or relayed. */
function newRuntime() {
  const messaging = new Messaging({
    service: 'bank',
    dataSource: database.dataSource,
    commands: new MemoryCommandTransport(),
    events: new MemoryEventTransport(),
    logger: silentLogger,
    partitions: 1,
  });
  return { runtime: new ActorRuntime(messaging, { conflictAttempts: 50 }), messaging };
}

function execution(type: string, id: string, amount: number, fields: Partial<Message> = {}) {
  const message = createMessage({ type, version: 1, source: 'test', data: { amount }, ...fields });
  return {
    id,
    command: { data: { amount }, message },
    once: { consumer: 'bank.commands', messageId: message.id },
    answers: { request: message },
  };
}

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
    { channel: 'command', address: Alert.type, message: { data: { amount: 2_000 } } },
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
    defineProjection(
      'unique-amount',
      on(
        project(Deposited, async (tx, events) => {
          const text = 'INSERT INTO unique_amount SELECT unnest($1::int[]) ON CONFLICT DO NOTHING RETURNING 1';
          const amounts = events.map(({ data }) => data.amount);
          if ((await tx.query({ name: 'unique-amount', text }, [amounts])).length < events.length)
            return reject('taken');
        }),
      ),
    ),
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
    decide: on(handle(Deposit, ({ data }) => [of({ ...Deposited, type: 'account.retired' }, data)])),
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
    decide: on(handle(Deposit, () => [of(Deposited, { amount: 0.5 })])),
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
        return [of(Deposited, data)];
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

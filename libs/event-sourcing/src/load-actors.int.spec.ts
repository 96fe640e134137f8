import { CreateMessagingTables1760000000001, type MessageDefinition } from '@starter/messaging';
import {
  account,
  Deposit,
  Deposited,
  eventually,
  execution,
  newBank,
  openTestDataSource,
  type AccountState,
  type TestDataSource,
} from '@starter/testing';
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { apply, defineActor, ignore, on, type Actor } from './actor.js';
import { CreateEventStore1760000000002 } from './create-event-store.migration.js';
import type { SnapshotPolicy } from './actor.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateEventStore1760000000002]);
});
afterAll(() => database.close());

const query = <Row>(sql: string, values: unknown[] = []) => database.dataSource.query<Row[]>(sql, values);

/** The account with snapshots; `evolved` counts the events that were folded. */
function withSnapshots(policy: Partial<SnapshotPolicy<AccountState>> = {}) {
  const schema = z.object({ balance: z.int() });
  const counted = { evolved: 0 };
  const actor = defineActor<AccountState>('account', {
    ...account,
    evolve: new Map(
      [...account.evolve].map(([type, handler]) => [
        type,
        {
          ...handler,
          evolve: (state: AccountState, event: never) => (counted.evolved++, handler.evolve(state, event)),
        },
      ]),
    ),
    snapshot: { version: 1, schema, every: 10, loadSlowerThanMs: Infinity, ...policy },
  });
  return { actor, counted };
}

/** Executes so many deposits of 1, and waits until the snapshot that is due is written. */
async function deposit(id: string, times: number, actor = withSnapshots().actor) {
  const { runtime } = newBank(database.dataSource);
  for (let n = 0; n < times; n += 1) await runtime.execute(actor, execution(Deposit.type, id, 1));
  await runtime.close();
}

async function load(id: string, policy?: Partial<SnapshotPolicy<AccountState>>) {
  const { actor, counted } = withSnapshots(policy);
  const loaded = await newBank(database.dataSource).runtime.read(actor, id);
  return { ...loaded, evolved: counted.evolved };
}

const snapshotOf = async (id: string) =>
  (
    await query<{ sequence: string; version: number; state: unknown }>(
      'SELECT sequence, version, state FROM snapshot WHERE stream_id = $1',
      [`account-${id}`],
    )
  )[0];

it('takes a snapshot every so many events, and loads from it and the events after it', async () => {
  const id = randomUUID();
  await deposit(id, 9);
  expect(await snapshotOf(id)).toBeUndefined();
  await deposit(id, 14);
  expect(await snapshotOf(id)).toEqual({ sequence: '20', version: 1, state: { balance: 20 } });
  expect(await load(id)).toEqual({ state: { balance: 23 }, sequence: 23, evolved: 3 });
});

it('takes a snapshot when loading took longer than the policy allows', async () => {
  const id = randomUUID();
  await deposit(id, 5);
  await load(id, { loadSlowerThanMs: 0 });
  await deposit(id, 1, withSnapshots({ loadSlowerThanMs: 0 }).actor);
  expect(await snapshotOf(id)).toMatchObject({ sequence: '6' });
});

it('does not use a snapshot of another version', async () => {
  const id = randomUUID();
  await deposit(id, 10);
  expect(await load(id)).toMatchObject({ evolved: 0 });
  expect(await load(id, { version: 2 })).toEqual({ state: { balance: 10 }, sequence: 10, evolved: 10 });
});

it('does not use a snapshot that does not fit its schema', async () => {
  const id = randomUUID();
  await deposit(id, 10);
  await query(`UPDATE snapshot SET state = '{"balance": "ten"}' WHERE stream_id = $1`, [`account-${id}`]);
  expect(await load(id)).toEqual({ state: { balance: 10 }, sequence: 10, evolved: 10 });
});

it.each([500, 7])(
  'does not use a snapshot of sequence %i that the log does not know, and replaces it',
  async (sequence) => {
    const id = randomUUID();
    await deposit(id, 10);
    const stream = `account-${id}`;
    await query(`UPDATE snapshot SET sequence = $2, state = '{"balance": 500}' WHERE stream_id = $1`, [
      stream,
      sequence,
    ]);
    expect(await load(id)).toEqual({ state: { balance: 10 }, sequence: 10, evolved: 10 });
    await eventually(async () =>
      expect(await snapshotOf(id)).toMatchObject({ sequence: '10', state: { balance: 10 } }),
    );
  },
);

it('loads an actor of more events than a page holds', async () => {
  const id = randomUUID();
  await deposit(id, 1);
  await query(
    `INSERT INTO event SELECT stream_id, n, gen_random_uuid(), type, version, data, correlation_id, causation_id, command, recorded_at
       FROM event, generate_series(2, 12_345) n WHERE stream_id = $1`,
    [`account-${id}`],
  );
  const other = randomUUID();
  await deposit(other, 2);
  expect(await load(id)).toMatchObject({ state: { balance: 12_345 }, sequence: 12_345 });
});

describe('a log of other times', () => {
  const Renamed: MessageDefinition = {
    kind: 'event',
    type: 'account.renamed',
    version: 2,
    owner: 'bank',
    schema: z.never(),
  };
  /** Before the deposits of version 2 there were cents, and accounts had names. */
  async function history() {
    const id = randomUUID();
    await deposit(id, 4);
    const stream = [`account-${id}`];
    await query(`UPDATE event SET version = 1, data = '{"cents": 500}' WHERE stream_id = $1 AND sequence = 2`, stream);
    await query(`UPDATE event SET type = 'account.renamed' WHERE stream_id = $1 AND sequence = 3`, stream);
    await query(`UPDATE event SET version = 2 WHERE stream_id = $1 AND sequence IN (1, 4)`, stream);
    return id;
  }
  const upcast = { 1: ({ cents }: { cents: number }) => ({ amount: cents / 100 }) };
  const evolve = apply({ ...Deposited, version: 2, upcast }, ({ balance }: AccountState, { data }) => ({
    balance: balance + data.amount,
  }));
  const read = (id: string, actor: Partial<Actor<AccountState>>) =>
    newBank(database.dataSource).runtime.read({ ...account, ...actor }, id);

  it('is read as of today: older versions are upcast, retired types are passed over', async () => {
    const id = await history();
    expect(await read(id, { evolve: on(evolve, ignore(Renamed)) })).toEqual({ state: { balance: 7 }, sequence: 4 });
  });

  it('is not guessed: an unknown type and an unknown version say so', async () => {
    const id = await history();
    await expect(read(id, { evolve: on(evolve) })).rejects.toThrow(
      'actor account cannot apply account.renamed (sequence 3); add an apply(...) for it, or ignore(...) it',
    );
    await expect(read(id, {})).rejects.toThrow(
      `account-${id} holds at sequence 1 a account.deposited v2 that cannot be read: UnknownVersion: account.deposited v2 is unknown here`,
    );
  });
});

describe('a log that cannot be right decides nothing', () => {
  const corrupted = async (sql: string) => {
    const id = randomUUID();
    await deposit(id, 5);
    await query(sql, [`account-${id}`]);
    const command = newBank(database.dataSource).runtime.execute(account, execution(Deposit.type, id, 1));
    const error: unknown = await command.catch((thrown: unknown) => thrown);
    const [{ n } = { n: 0 }] = await query<{ n: number }>(
      'SELECT count(*)::int AS n FROM event WHERE stream_id = $1 AND sequence > 5',
      [`account-${id}`],
    );
    expect(n).toBe(0);
    return { error, stream: `account-${id}` };
  };

  it('with a gap', async () => {
    const { error, stream } = await corrupted('DELETE FROM event WHERE stream_id = $1 AND sequence = 3');
    expect(error).toMatchObject({
      name: 'TerminalError',
      message: `${stream} has a gap: after sequence 2 comes 4; restore the missing events`,
    });
  });

  it('with a row that does not fit its schema', async () => {
    const { error, stream } = await corrupted(
      `UPDATE event SET data = '{"amount": "much"}' WHERE stream_id = $1 AND sequence = 3`,
    );
    expect(error).toMatchObject({
      name: 'TerminalError',
      message: expect.stringContaining(`${stream} holds at sequence 3 a account.deposited v1 that cannot be read`),
    });
  });

  it('with an end that was lost under a running service', async () => {
    const id = randomUUID();
    const { runtime } = newBank(database.dataSource);
    for (let n = 0; n < 5; n += 1) await runtime.execute(account, execution(Deposit.type, id, 1));
    await query('DELETE FROM event WHERE stream_id = $1 AND sequence >= 3', [`account-${id}`]);
    const command = execution(Deposit.type, id, 1);
    await expect(runtime.execute(account, command)).rejects.toMatchObject({ name: 'ConcurrencyError', code: '40001' });
    expect(await runtime.execute(account, command)).toMatchObject({ kind: 'applied', state: { balance: 3 } });
    expect(await query('SELECT sequence FROM event WHERE stream_id = $1 ORDER BY 1', [`account-${id}`])).toEqual(
      ['1', '2', '3'].map((sequence) => ({ sequence })),
    );
  });
});

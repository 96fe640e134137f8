import { openTestDataSource, type TestDataSource } from '@starter/testing';
import type { Pool } from 'pg';
import { EntitySchema } from 'typeorm';
import { Attempt } from '../consumer/attempt.js';
import { CreateMessagingTables1760000000001 } from './create-messaging-tables.migration.js';
import { inTransaction, type Transaction } from './transaction.js';

interface Row {
  consumer: string;
  message_id: string;
}
const Inbox = new EntitySchema<Row>({
  name: 'inbox',
  columns: { consumer: { type: 'text', primary: true }, message_id: { type: 'text', primary: true } },
});

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001], { entities: [Inbox] });
});
afterAll(() => database.close());
beforeEach(() => database.dataSource.query('TRUNCATE inbox'));

const insert = { name: 'insert', text: `INSERT INTO inbox (consumer, message_id) VALUES ('spec', $1)` };
const text = `INSERT INTO inbox (consumer, message_id) VALUES ('spec', 'late')`;
const sleep = { name: 'sleep', text: 'SELECT pg_sleep($1)' };

const stored = async () =>
  (await database.dataSource.query<{ id: string }[]>('SELECT message_id AS id FROM inbox ORDER BY 1')).map(
    ({ id }) => id,
  );

/** When everything that was sent before has been done: one after the other, every connection of the pool is asked. */
async function settled(): Promise<void> {
  const { master } = database.dataSource.driver as unknown as { readonly master: Pool };
  const clients = await Promise.all(Array.from({ length: master.options.max }, () => master.connect()));
  await Promise.all(clients.map((client) => client.query('SELECT 1')));
  clients.forEach((client) => client.release());
}

/** Every way to the connection that a handler has. */
const ways: readonly (readonly [string, (tx: Transaction) => Promise<unknown>])[] = [
  ['tx.query', (tx) => tx.query(insert, ['late'])],
  ['tx.manager', (tx) => tx.manager.query(text)],
  ['a repository', (tx) => tx.manager.getRepository(Inbox).insert({ consumer: 'spec', message_id: 'late' })],
  [
    'a query builder',
    (tx) =>
      tx.manager.createQueryBuilder().insert().into(Inbox).values({ consumer: 'spec', message_id: 'late' }).execute(),
  ],
  ['a nested transaction', (tx) => tx.manager.transaction((inner) => inner.query(text))],
  ['the query runner', async (tx) => tx.manager.queryRunner?.query(text)],
  ['the connection', async (tx) => ((await tx.manager.queryRunner?.connect()) as Pool).query(text)],
];

describe.each(ways)('a transaction that was given up takes no more statements through %s', (_, late) => {
  it('when its fence closes while a statement is under way', async () => {
    const attempt = new Attempt();
    let branch: Promise<unknown> | undefined;
    const work = inTransaction(
      database.dataSource,
      (tx) => {
        branch = (async () => {
          await tx.query(insert, ['early']);
          setTimeout(() => attempt.fail(new Error('it took too long')), 50);
          await tx.query(sleep, [1]).catch(() => undefined);
          await late(tx);
        })();
        return branch;
      },
      attempt,
    );
    await expect(work).rejects.toThrow('it took too long');
    await expect(branch).rejects.toThrow();
    await settled();
    expect(await stored()).toEqual([]);
  });

  it('when another branch of its work fails', async () => {
    let branch: Promise<unknown> | undefined;
    const work = inTransaction(database.dataSource, async (tx) => {
      await tx.query(insert, ['early']);
      branch = tx.query(sleep, [0.3]).then(() => late(tx));
      await Promise.all([branch, Promise.reject(new Error('the other branch failed'))]);
    });
    await expect(work).rejects.toThrow('the other branch failed');
    await expect(branch).rejects.toThrow();
    await settled();
    expect(await stored()).toEqual([]);
  });

  it('when the statement had begun in the same turn, and was not sent yet', async () => {
    let branch: Promise<unknown> | undefined;
    const work = inTransaction(database.dataSource, async (tx) => {
      await tx.query(insert, ['early']);
      branch = Promise.resolve().then(() => late(tx));
      branch.catch(() => undefined);
      throw new Error('given up');
    });
    await expect(work).rejects.toThrow('given up');
    await branch?.catch(() => undefined);
    await settled();
    expect(await stored()).toEqual([]);
  });

  it('when it has been committed', async () => {
    let left: Transaction | undefined;
    await inTransaction(database.dataSource, async (tx) => {
      left = tx;
      await tx.commitBehind(tx.query(insert, ['early']));
      await expect(late(tx)).rejects.toThrow('the transaction was committed; wait for ');
    });
    await expect(late(left as Transaction)).rejects.toThrow(/the transaction was committed|released/);
    expect(await stored()).toEqual(['early']);
  });
});

it('frees its locks at once when its fence closes over a long statement', async () => {
  const attempt = new Attempt();
  const work = inTransaction(
    database.dataSource,
    async (tx) => {
      await tx.query(insert, ['contended']);
      setTimeout(() => attempt.fail(new Error('terminated')), 50);
      await tx.query(sleep, [3_600]);
    },
    attempt,
  );
  await expect(work).rejects.toThrow('terminated');
  await inTransaction(database.dataSource, (tx) => tx.query(insert, ['contended']));
  expect(await stored()).toEqual(['contended']);
});

it('frees its locks when one of its branches fails beside a long statement', async () => {
  const work = inTransaction(database.dataSource, async (tx) => {
    await tx.query(insert, ['contended']);
    await Promise.all([tx.query(sleep, [3_600]), Promise.reject(new Error('the other branch failed'))]);
  });
  await expect(work).rejects.toThrow('the other branch failed');
  await inTransaction(database.dataSource, (tx) => tx.query(insert, ['contended']));
  expect(await stored()).toEqual(['contended']);
});

it.each(['COMMIT', ' rollback', 'BEGIN', 'start transaction', 'END', 'abort'])(
  'is not ended by its work: %s',
  async (statement) => {
    const work = inTransaction(database.dataSource, async (tx) => {
      await tx.query(insert, ['half']);
      await tx.manager.query(statement);
    });
    await expect(work).rejects.toThrow('return to commit, throw to undo');
    expect(await stored()).toEqual([]);
  },
);

it('goes back to a savepoint of its own', async () => {
  await inTransaction(database.dataSource, async (tx) => {
    await tx.query(insert, ['kept']);
    const inner = tx.manager.transaction(async (manager) => {
      await manager.query(text);
      throw new Error('not this');
    });
    await expect(inner).rejects.toThrow('not this');
  });
  expect(await stored()).toEqual(['kept']);
});

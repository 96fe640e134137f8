import { openTestDataSource, type TestDataSource } from '@starter/testing';
import type { Pool } from 'pg';
import { CreateMessagingTables1760000000001 } from './create-messaging-tables.migration.js';
import { inTransaction } from './transaction.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());

const insert = { name: 'insert', text: `INSERT INTO inbox (consumer, message_id) VALUES ('spec', $1)` };
const stored = async () =>
  (await database.dataSource.query<{ id: string }[]>('SELECT message_id AS id FROM inbox ORDER BY 1')).map(
    ({ id }) => id,
  );

it('commits behind the last statements, and undoes all of them when one fails', async () => {
  const committed: string[] = [];
  const store = (...ids: readonly string[]) =>
    inTransaction(database.dataSource, async (tx) => {
      tx.afterCommit(() => committed.push(...ids));
      await tx.commitBehind(...ids.map((id) => tx.query(insert, [id])));
    });
  await store('a', 'b');
  // What the third says is only that the transaction is over.
  await expect(store('c', 'a', 'd')).rejects.toMatchObject({ code: '23505' });
  expect(await stored()).toEqual(['a', 'b']);
  expect(committed).toEqual(['a', 'b']);
});

it('commits nothing behind a statement that was never sent', async () => {
  const work = inTransaction(database.dataSource, (tx) =>
    tx.commitBehind(tx.query(insert, ['e']), Promise.reject(new Error('it could not be written down'))),
  );
  await expect(work).rejects.toThrow('it could not be written down');
  expect(await stored()).not.toContain('e');
});

it('a connection that the server ends while it changes hands costs that connection, not the process', async () => {
  const { master } = database.dataSource.driver as unknown as { readonly master: Pool };
  // Given, and not yet in the hands of anybody who listens.
  const client = await master.connect();
  const [{ pid }] = (await client.query<{ pid: number }>('SELECT pg_backend_pid() AS pid')).rows as [{ pid: number }];
  const ended = new Promise<void>((resolve) => client.once('end', () => resolve()));
  await database.dataSource.query('SELECT pg_terminate_backend($1)', [pid]);
  await ended;
  await expect(client.query('SELECT 1')).rejects.toThrow('the database cannot be used now: terminating connection');
  client.release();
  await inTransaction(database.dataSource, (tx) => tx.query(insert, ['f']));
  expect(await stored()).toContain('f');
});

import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { CreateMessagingTables1760000000001 } from './create-messaging-tables.migration.js';
import { inTransaction, together } from './transaction.js';

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
      const sent = ids.map((id) => tx.query(insert, [id]));
      tx.commitBehind();
      await together(...sent);
    });
  await store('a', 'b');
  // What the third says is only that the transaction is over.
  await expect(store('c', 'a', 'd')).rejects.toMatchObject({ code: '23505' });
  expect(await stored()).toEqual(['a', 'b']);
  expect(committed).toEqual(['a', 'b']);
});

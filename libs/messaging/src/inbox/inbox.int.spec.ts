import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { inTransaction } from '../database/transaction.js';
import { admitOnce } from './inbox.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());

const admit = async (consumer: string, ...ids: string[]) =>
  inTransaction(database.dataSource, (tx) =>
    admitOnce(
      tx,
      ids.map((messageId) => ({ consumer, messageId })),
    ),
  );

describe('admitOnce', () => {
  it('admits an id once per consumer', async () => {
    expect(await admit('a', 'm1')).toEqual([true]);
    expect(await admit('a', 'm1')).toEqual([false]);
    expect(await admit('b', 'm1')).toEqual([true]);
  });

  it('tells the new from the known in one call, a second copy included', async () => {
    await admit('a', 'known');
    expect(await admit('a', 'new-1', 'known', 'new-2', 'new-1')).toEqual([true, false, true, false]);
  });

  it('forgets what was rolled back', async () => {
    const failing = inTransaction(database.dataSource, async (tx) => {
      await admitOnce(tx, [{ consumer: 'a', messageId: 'm2' }]);
      throw new Error('the effect failed');
    });
    await expect(failing).rejects.toThrow('the effect failed');
    expect(await admit('a', 'm2')).toEqual([true]);
  });

  it('admits each of ten messages once when twenty receive them at the same time, in any order', async () => {
    const ids = Array.from({ length: 10 }, (_, n) => `many-${n}`);
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, n) => admit('a', ...(n % 2 ? ids : [...ids].reverse()))),
    );
    expect(answers.flat().filter(Boolean)).toHaveLength(ids.length);
  });
});

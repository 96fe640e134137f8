import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { inTransaction } from '../database/transaction.js';
import { createMessage } from '../message.js';
import { admitInSequence, admitOnce, type SequencedMessage } from './inbox.js';

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

const event = (key: string, sequence: number) =>
  createMessage({
    type: 'test.happened',
    version: 1,
    source: 's',
    subject: key,
    sequence,
    data: {},
  }) as SequencedMessage;
const admitNext = (consumer: string, message: SequencedMessage) =>
  inTransaction(database.dataSource, (tx) => admitInSequence(tx, consumer, message));

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

describe('admitInSequence', () => {
  it('admits in order, knows duplicates and parks what comes too early', async () => {
    expect(await admitNext('p', event('k', 1))).toEqual({ verdict: 'new', parkedTo: 0 });
    expect(await admitNext('p', event('k', 1))).toEqual({ verdict: 'duplicate' });
    expect(await admitNext('p', event('k', 3))).toEqual({ verdict: 'parked' });
    expect(await admitNext('p', event('k', 2))).toEqual({ verdict: 'new', parkedTo: 3 });
    expect(await admitNext('p', event('k', 3))).toEqual({ verdict: 'new', parkedTo: 3 });
    expect(await admitNext('p', event('other', 1))).toEqual({ verdict: 'new', parkedTo: 0 });
  });

  it('parks an event whose key has not been seen at all', async () => {
    expect(await admitNext('p', event('late', 2))).toEqual({ verdict: 'parked' });
    expect(await admitNext('p', event('late', 1))).toEqual({ verdict: 'new', parkedTo: 2 });
  });

  it('never leaves a parked event behind when its predecessor commits at the same moment', async () => {
    for (let round = 0; round < 50; round += 1) {
      const key = `race-${round}`;
      const [first, second] = await Promise.all([admitNext('p', event(key, 1)), admitNext('p', event(key, 2))]);
      expect(first.verdict).toBe('new');
      // Either the second saw the first, or the first was told that somebody waits.
      if (second.verdict === 'parked') expect(first).toEqual({ verdict: 'new', parkedTo: 2 });
      else expect(second.verdict).toBe('new');
    }
  });
});

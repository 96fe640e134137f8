import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { inTransaction } from '../database/transaction.js';
import { createMessage } from '../message.js';
import { inSequence, once, type SequencedMessage } from './inbox.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());

const admitOnce = (consumer: string, id: string) =>
  inTransaction(database.dataSource, (tx) => once(consumer, id).admit(tx));

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
  inTransaction(database.dataSource, (tx) => inSequence(consumer, message).admit(tx));

describe('once', () => {
  it('admits an id once per consumer', async () => {
    expect(await admitOnce('a', 'm1')).toMatchObject({ verdict: 'new' });
    expect(await admitOnce('a', 'm1')).toEqual({ verdict: 'duplicate' });
    expect(await admitOnce('b', 'm1')).toMatchObject({ verdict: 'new' });
  });

  it('forgets what was rolled back', async () => {
    const failing = inTransaction(database.dataSource, async (tx) => {
      await once('a', 'm2').admit(tx);
      throw new Error('the effect failed');
    });
    await expect(failing).rejects.toThrow('the effect failed');
    expect(await admitOnce('a', 'm2')).toMatchObject({ verdict: 'new' });
  });

  it('admits one of twenty deliveries at the same time', async () => {
    const admissions = await Promise.all(Array.from({ length: 20 }, () => admitOnce('a', 'm3')));
    expect(admissions.filter(({ verdict }) => verdict === 'new')).toHaveLength(1);
    expect(admissions.filter(({ verdict }) => verdict === 'duplicate')).toHaveLength(19);
  });
});

describe('inSequence', () => {
  it('admits in order, knows duplicates and parks what comes too early', async () => {
    expect(await admitNext('p', event('k', 1))).toEqual({ verdict: 'new', successorParked: false });
    expect(await admitNext('p', event('k', 1))).toEqual({ verdict: 'duplicate' });
    expect(await admitNext('p', event('k', 3))).toEqual({ verdict: 'parked' });
    expect(await admitNext('p', event('k', 2))).toEqual({ verdict: 'new', successorParked: true });
    expect(await admitNext('p', event('k', 3))).toEqual({ verdict: 'new', successorParked: false });
    expect(await admitNext('p', event('other', 1))).toEqual({ verdict: 'new', successorParked: false });
  });

  it('parks an event whose key has not been seen at all', async () => {
    expect(await admitNext('p', event('late', 2))).toEqual({ verdict: 'parked' });
    expect(await admitNext('p', event('late', 1))).toEqual({ verdict: 'new', successorParked: true });
  });

  it('never leaves a parked event behind when its predecessor commits at the same moment', async () => {
    for (let round = 0; round < 50; round += 1) {
      const key = `race-${round}`;
      const [first, second] = await Promise.all([admitNext('p', event(key, 1)), admitNext('p', event(key, 2))]);
      expect(first.verdict).toBe('new');
      // Either the second saw the first, or the first was told that somebody waits.
      if (second.verdict === 'parked') expect(first).toEqual({ verdict: 'new', successorParked: true });
      else expect(second.verdict).toBe('new');
    }
  });
});

import { openTestDataSource, uniqueName, type TestDataSource } from '@starter/testing';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { inTransaction } from '../database/transaction.js';
import { createMessage } from '../message.js';
import { advanceKeys, holdConsumer, keysAsTheyAre, setKeys, type Run, type SequencedMessage } from './sequence.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());

/** The keys that have advanced; the others are left where they are. */
const advance = async (consumer: string, ...runs: Run[]) =>
  inTransaction(database.dataSource, async (tx) => {
    const advanced = await advanceKeys(tx, consumer, runs);
    const others = runs.filter(({ key }) => !advanced.has(key)).map(({ key, last }) => event(key, last));
    const states = await keysAsTheyAre(tx, consumer, others);
    await setKeys(
      tx,
      consumer,
      [...states].map(([key, state]) => ({ key, ...state })),
    );
    return [...advanced].sort();
  });

const event = (subject: string, sequence: number) =>
  createMessage({ type: 'test.happened', version: 1, source: 'test', subject, sequence, data: {} }) as SequencedMessage;

it('advances each key over the run that comes next, and no other', async () => {
  const consumer = uniqueName('consumer');
  expect(await advance(consumer, { key: 'a', first: 1, last: 3 }, { key: 'b', first: 1, last: 1 })).toEqual(['a', 'b']);
  const runs = [
    { key: 'a', first: 4, last: 4 },
    { key: 'b', first: 3, last: 3 },
    { key: 'c', first: 0, last: 1 },
  ];
  expect(await advance(consumer, ...runs)).toEqual(['a']);
  expect(await advance(consumer, ...runs)).toEqual([]);
  expect(await advance(consumer, { key: 'a', first: 2, last: 5 })).toEqual([]);
  expect(await advance(consumer, { key: 'b', first: 2, last: 2 })).toEqual(['b']);
});

it('lets one of two processes advance a key, however their batches meet', async () => {
  const consumer = uniqueName('consumer');
  const keys = Array.from({ length: 50 }, (_, index) => `key-${index}`);
  for (let sequence = 1; sequence <= 5; sequence += 1) {
    const runs = keys.map((key) => ({ key, first: sequence, last: sequence }));
    const [one, other] = await Promise.all([advance(consumer, ...runs), advance(consumer, ...runs.reverse())]);
    expect([...one, ...other].sort()).toEqual([...keys].sort());
  }
});

it('keeps the batches of a consumer off while somebody holds it', async () => {
  const [held, other] = [uniqueName('consumer'), uniqueName('consumer')];
  const order: string[] = [];
  let waiting: Promise<unknown> = Promise.resolve();
  await inTransaction(database.dataSource, async (tx) => {
    await tx.query(holdConsumer, [held]);
    waiting = advance(held, { key: 'a', first: 1, last: 1 }).then((advanced) => order.push(`held ${advanced.join()}`));
    await advance(other, { key: 'a', first: 1, last: 1 });
    // What holds it may move the keys, and the batch sees them as they are afterwards.
    const text = `INSERT INTO inbox_sequence (consumer, key, sequence) VALUES ($1, 'a', 1)`;
    await tx.query({ name: 'move', text }, [held]);
    order.push('released');
  });
  await waiting;
  expect(order).toEqual(['released', 'held ']);
});

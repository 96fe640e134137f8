import { eventually, openTestDataSource, seededRandom, uniqueName, type TestDataSource } from '@starter/testing';
import { z } from 'zod';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { TransientError } from '../errors.js';
import { silentLogger } from '../logger.js';
import { MemoryEventTransport } from '../memory/memory-event-transport.js';
import { newCounters } from '../message-counters.js';
import { createMessage, type Message } from '../message.js';
import { OrderedEvents, type OrderedHandler } from './ordered-events.js';

const Happened = {
  kind: 'event',
  type: 'test.happened',
  version: 1,
  owner: 'test',
  schema: z.object({ n: z.int() }),
} as const;

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
  await database.dataSource.query('CREATE TABLE effect (id bigserial PRIMARY KEY, consumer text, key text, n int)');
});
afterAll(() => database.close());

const event = (key: string, n: number): Message =>
  createMessage({ type: Happened.type, version: 1, source: 'test', subject: key, sequence: n, data: { n } });

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
});

type Handler = OrderedHandler<{ n: number }>;

/** A consumer of a topic of its own; its effect is one row per event, in the transaction of the inbox. */
async function consume(before: (...args: Parameters<Handler>) => void = () => undefined) {
  const transport = new MemoryEventTransport();
  const topic = uniqueName('topic');
  const consumer = uniqueName('consumer');
  await transport.declare([{ name: topic, partitions: 3 }]);
  const counters = newCounters();
  const { dataSource } = database;
  const events = new OrderedEvents({
    topic,
    consumer,
    transport,
    dataSource,
    counters,
    logger: silentLogger,
    sweepMs: 50,
    failurePolicy: { maxRetries: 2, backoff: { baseMs: 20, jitter: 0 } },
  }).on(Happened, async (received, tx) => {
    before(received, tx);
    await tx.query({ name: 'effect', text: 'INSERT INTO effect (consumer, key, n) VALUES ($1, $2, $3)' }, [
      consumer,
      received.message.subject,
      received.data.n,
    ]);
  });
  await events.start();
  stops.push(async () => {
    await events.stop();
    await transport.close();
  });
  const effectsOf = async (key: string): Promise<number[]> =>
    (
      await dataSource.query<{ n: number }[]>('SELECT n FROM effect WHERE consumer = $1 AND key = $2 ORDER BY id', [
        consumer,
        key,
      ])
    ).map(({ n }) => n);
  const parked = () =>
    dataSource.query<{ sequence: string; failure: string | null }[]>(
      'SELECT sequence, failure FROM inbox_parked WHERE consumer = $1 ORDER BY key, sequence',
      [consumer],
    );
  return {
    consumer,
    counters,
    effectsOf,
    parked,
    publish: (...messages: Message[]) => transport.publish(topic, messages),
  };
}

it('handles each event once and in order, however it is shuffled and repeated', async () => {
  const random = seededRandom();
  const { publish, effectsOf, parked, counters } = await consume();
  const keys = ['a', 'b', 'c', 'd'];
  const length = 25;
  const inOrder = Array.from({ length }, (_, index) => index + 1);
  const deliveries = keys
    .flatMap((key) => inOrder.map((n) => event(key, n)))
    .flatMap((message) => [message, message, message]);
  for (let index = deliveries.length - 1; index > 0; index -= 1) {
    const other = Math.floor(random() * (index + 1));
    [deliveries[index], deliveries[other]] = [deliveries[other] as Message, deliveries[index] as Message];
  }
  await publish(...deliveries);
  for (const key of keys) await eventually(async () => expect(await effectsOf(key)).toEqual(inOrder));
  await eventually(() => expect(counters.handled + counters.duplicates).toBeGreaterThanOrEqual(keys.length * length));
  for (const key of keys) expect(await effectsOf(key)).toEqual(inOrder);
  await eventually(async () => expect(await parked()).toEqual([]));
});

it('holds a failing event and its successors, lets other keys pass, and goes on when the failure is cleared', async () => {
  let broken = true;
  const { publish, effectsOf, parked, consumer } = await consume(({ message, data }) => {
    if (broken && message.subject === 'sick' && data.n === 2) throw new Error('cannot be applied');
  });
  await publish(event('sick', 1), event('sick', 2), event('sick', 3), event('well', 1), event('well', 2));
  await eventually(async () => expect(await effectsOf('well')).toEqual([1, 2]));
  await eventually(async () =>
    expect(await parked()).toEqual([
      { sequence: '2', failure: expect.stringContaining('cannot be applied') as string },
      { sequence: '3', failure: null },
    ]),
  );
  expect(await effectsOf('sick')).toEqual([1]);
  broken = false;
  await database.dataSource.query('UPDATE inbox_parked SET failure = NULL WHERE consumer = $1', [consumer]);
  await eventually(async () => expect(await effectsOf('sick')).toEqual([1, 2, 3]));
  expect(await parked()).toEqual([]);
});

it('tries a transient failure again, counts the attempts in the database, and gives up after the last', async () => {
  const attempts: number[] = [];
  const { publish, effectsOf, parked } = await consume(({ attempt, message }) => {
    if (message.subject !== 'flaky') throw new TransientError('always busy');
    attempts.push(attempt);
    if (attempt < 3) throw new TransientError('busy');
  });
  await publish(event('flaky', 1), event('hopeless', 1));
  await eventually(async () => expect(await effectsOf('flaky')).toEqual([1]));
  expect(attempts).toEqual([1, 2, 3]);
  await eventually(async () =>
    expect(await parked()).toEqual([{ sequence: '1', failure: expect.stringContaining('after 3 attempts') as string }]),
  );
});

it('leaves a failed event to its own time when a second copy comes', async () => {
  const attempts: number[] = [];
  let broken = true;
  const { publish, effectsOf, parked, counters, consumer } = await consume(({ attempt }) => {
    attempts.push(attempt);
    if (broken) throw new Error('cannot be applied');
  });
  await publish(event('k', 1));
  await eventually(async () => expect(await parked()).toMatchObject([{ sequence: '1' }]));
  await publish(event('k', 1), event('k', 1));
  await eventually(() => expect(counters.duplicates).toBe(2));
  expect(await parked()).toEqual([{ sequence: '1', failure: expect.stringContaining('cannot be applied') as string }]);
  broken = false;
  await database.dataSource.query('UPDATE inbox_parked SET failure = NULL WHERE consumer = $1', [consumer]);
  await eventually(async () => expect(await effectsOf('k')).toEqual([1]));
  await eventually(async () => expect(await parked()).toEqual([]));
  expect(attempts.at(-1)).toBe(2);
});

it('records an event that does not fit its schema, and goes on with the next', async () => {
  const { publish, effectsOf, consumer } = await consume();
  await publish({ ...event('k', 1), data: { n: 'one' } }, event('k', 2));
  await eventually(async () => expect(await effectsOf('k')).toEqual([2]));
  const [discarded] = await database.dataSource.query<{ reason: string }[]>(
    'SELECT reason FROM inbox_discarded WHERE consumer = $1',
    [consumer],
  );
  expect(discarded?.reason).toContain('n: ');
});

it('advances past the types that nobody handles', async () => {
  const { publish, effectsOf } = await consume();
  await publish({ ...event('k', 1), type: 'test.other' }, event('k', 2));
  await eventually(async () => expect(await effectsOf('k')).toEqual([2]));
});

it('holds an event of an unknown version for a human', async () => {
  const { publish, parked } = await consume();
  await publish({ ...event('k', 1), version: 7 });
  await eventually(async () =>
    expect(await parked()).toMatchObject([{ failure: expect.stringContaining('v7') as string }]),
  );
});

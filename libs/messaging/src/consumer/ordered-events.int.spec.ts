import { eventually, openTestDataSource, seededRandom, uniqueName, type TestDataSource } from '@starter/testing';
import { z } from 'zod';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { inTransaction } from '../database/transaction.js';
import { TransientError } from '../errors.js';
import { escalateGaps, openGaps } from '../inbox/gaps.js';
import { type SequencedMessage } from '../inbox/sequence.js';
import { connectKafka } from '../kafka/kafka-event-transport.js';
import { silentLogger } from '../logger.js';
import { MemoryEventLog } from '../memory/memory-event-log.js';
import { MemoryEventTransport } from '../memory/memory-event-transport.js';
import { createMessage, type Message } from '../message.js';
import { ConsumerMonitor } from '../monitor/consumer-monitor.js';
import type { EventTransport } from '../transport/event-transport.js';
import type { ReceivedEvent } from './event-batch.js';
import { handleBatch, type OrderedEvent } from './event-batch.js';
import { OrderedEvents, type OrderedEventsOptions } from './ordered-events.js';

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

interface Setup extends Partial<OrderedEventsOptions> {
  /** Called before each event takes effect. */
  readonly before?: (event: ReceivedEvent<{ n: number }>) => void | Promise<void>;
  readonly manyPerKey?: boolean;
}

/** A consumer of a topic of its own; its effect is one row per event, in the transaction of the inbox. */
async function consume({ before = () => undefined, manyPerKey = false, ...options }: Setup = {}) {
  const { transport = new MemoryEventTransport() } = options;
  const topic = options.topic ?? uniqueName('topic');
  const consumer = options.consumer ?? uniqueName('consumer');
  await transport.declare([{ name: topic, partitions: 3 }]);
  const monitor = new ConsumerMonitor();
  /** Sizes of the batches that the handler got. */
  const batches: number[] = [];
  const { dataSource } = database;
  const events = new OrderedEvents({
    topic,
    consumer,
    transport,
    dataSource,
    monitor,
    logger: silentLogger,
    sweepMs: 50,
    failurePolicy: { maxRetries: 2, backoff: { baseMs: 20, jitter: 0 } },
    ...options,
  });
  events.on(
    Happened,
    async (received, tx) => {
      for (const one of received) await before(one);
      const keys = received.map(({ message }) => message.subject);
      if (!manyPerKey) expect(new Set(keys).size).toBe(keys.length);
      batches.push(received.length);
      const text = 'INSERT INTO effect (consumer, key, n) SELECT $1, * FROM unnest($2::text[], $3::int[])';
      await tx.query({ name: 'effect', text }, [consumer, keys, received.map(({ data }) => data.n)]);
    },
    { manyPerKey },
  );
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
    events,
    transport,
    consumer,
    monitor,
    batches,
    effectsOf,
    parked,
    publish: (...messages: Message[]) => transport.publish(topic, messages),
  };
}

const upTo = (length: number) => Array.from({ length }, (_, index) => index + 1);

/** All events of these keys, each three times, shuffled within windows of 100 deliveries. */
function shuffled(keys: readonly string[], length: number): Message[] {
  const random = seededRandom();
  const inOrder = upTo(length).flatMap((n) => keys.map((key) => event(key, n)));
  const deliveries: Message[] = [];
  for (let start = 0; start < inOrder.length; start += 100) {
    const window = inOrder.slice(start, start + 100).flatMap((message) => [message, message, message]);
    for (let index = window.length - 1; index > 0; index -= 1) {
      const other = Math.floor(random() * (index + 1));
      [window[index], window[other]] = [window[other] as Message, window[index] as Message];
    }
    deliveries.push(...window);
  }
  return deliveries;
}

/** Names of the statements that go to the database. */
function recordStatements(dataSource: TestDataSource['dataSource']): string[] {
  const { master } = dataSource.driver as unknown as { readonly master: { query: (statement: never) => unknown } };
  const query = master.query.bind(master);
  const names: string[] = [];
  master.query = (statement: { readonly name: string }) => {
    names.push(statement.name);
    return query(statement as never);
  };
  stops.push(async () => void (master.query = query));
  return names;
}

it('does not ask for keys that may go on while nothing is parked, and does once another process has parked', async () => {
  const names = recordStatements(database.dataSource);
  const { consumer, effectsOf, publish } = await consume();
  await publish(event('a', 1));
  await eventually(() => expect(names.filter((name) => name === 'inbox-parked-count').length).toBeGreaterThan(3));
  expect(names).not.toContain('inbox-parked-keys');
  await eventually(async () => expect(await effectsOf('a')).toEqual([1]));
  await database.dataSource.query(
    `INSERT INTO inbox_parked (consumer, key, sequence, id, type, message, attempts, due_at)
     SELECT $1, 'a', 2, $2::json ->> 'id', $2::json ->> 'type', $2, 0, now()`,
    [consumer, JSON.stringify(event('a', 2))],
  );
  await eventually(async () => expect(await effectsOf('a')).toEqual([1, 2]));
});

const brokers = process.env['KAFKA_BROKERS'];
it.each<[string, () => Promise<EventTransport>]>([
  ['memory', async () => new MemoryEventTransport()],
  ...(brokers
    ? [
        ['Kafka', () => connectKafka({ clientId: 'spec', brokers: brokers.split(',') })] as [
          string,
          () => Promise<EventTransport>,
        ],
      ]
    : []),
])('handles each event once and in order, however it is shuffled and repeated: %s', async (_, connect) => {
  const { publish, effectsOf, parked, monitor } = await consume({ transport: await connect() });
  const keys = Array.from({ length: 20 }, (_, index) => `key-${index}`);
  const deliveries = shuffled(keys, 100);
  while (deliveries.length > 0) await publish(...deliveries.splice(0, 500));
  for (const key of keys) await eventually(async () => expect(await effectsOf(key)).toEqual(upTo(100)));
  await eventually(() =>
    expect(monitor.totals.handled + monitor.totals.duplicates).toBeGreaterThanOrEqual(keys.length * 100),
  );
  for (const key of keys) expect(await effectsOf(key)).toEqual(upTo(100));
  await eventually(async () => expect(await parked()).toEqual([]));
});

it.each([
  ['at most one of each key', false],
  ['several of a key, if it takes them', true],
])('handles one event at once, and what has come meanwhile together: %s', async (_, manyPerKey) => {
  let release = (): void => undefined;
  let entered = false;
  const held = new Promise<void>((resolve) => (release = resolve));
  const { publish, batches, effectsOf } = await consume({
    manyPerKey,
    before: ({ message }) => {
      if (message.subject !== 'first') return;
      entered = true;
      return held;
    },
  });
  await publish(event('first', 1));
  await eventually(() => expect(entered).toBe(true));
  const keys = Array.from({ length: 300 }, (_, index) => `many-${index}`);
  await publish(...[1, 2].flatMap((sequence) => keys.map((key) => event(key, sequence))));
  release();
  await eventually(async () => expect(await effectsOf('many-299')).toEqual([1, 2]));
  expect(batches[0]).toBe(1);
  expect(batches.reduce((sum, size) => sum + size)).toBe(601);
  expect(batches.length).toBeLessThan(20);
  expect(Math.max(...batches) > keys.length).toBe(manyPerKey);
});

it('finds the poisonous event among many, and lets all the others take effect', async () => {
  const { publish, effectsOf, parked, monitor } = await consume({
    before: ({ message, data }) => {
      if (message.subject === 'key-7' && data.n === 3) throw new Error('poison');
    },
  });
  const keys = Array.from({ length: 50 }, (_, index) => `key-${index}`);
  await publish(...upTo(5).flatMap((n) => keys.map((key) => event(key, n))));
  for (const key of keys) {
    const expected = key === 'key-7' ? [1, 2] : upTo(5);
    await eventually(async () => expect(await effectsOf(key)).toEqual(expected));
  }
  await eventually(async () =>
    expect(await parked()).toMatchObject([
      { sequence: '3', failure: expect.stringContaining('poison') as string },
      { sequence: '4', failure: null },
      { sequence: '5', failure: null },
    ]),
  );
  expect(monitor.totals.deadLettered).toBe(1);
});

it('stays exactly once and in order while members of the group come, go and crash in the middle of batches', async () => {
  const log = new MemoryEventLog({ rebalanceDrainMs: 20 });
  const [topic, consumer] = [uniqueName('topic'), uniqueName('consumer')];
  // Slow enough that every change of members finds batches under way.
  const before = () => new Promise<void>((resolve) => setTimeout(resolve, Math.random() < 0.02 ? 30 : 0));
  const member = () => consume({ topic, consumer, before, maxBatch: 50, transport: new MemoryEventTransport(log) });
  const first = await member();
  const keys = Array.from({ length: 12 }, (_, index) => `key-${index}`);
  await first.publish(...shuffled(keys, 30));
  const second = await member();
  await eventually(async () => expect((await first.effectsOf('key-0')).length).toBeGreaterThan(3));
  const third = await member();
  (second.transport as MemoryEventTransport).crash();
  await eventually(async () => expect((await first.effectsOf('key-0')).length).toBeGreaterThan(10));
  await first.events.stop();
  for (const key of keys) await eventually(async () => expect(await third.effectsOf(key)).toEqual(upTo(30)));
  await eventually(async () => expect(await third.parked()).toEqual([]));
});

it('begins a key that it does not know with the first event that it sees, if told so, and records the older ones', async () => {
  const { consumer, effectsOf, publish, parked } = await consume({ newKeys: 'from-first-seen' });
  await publish(event('old', 57), event('old', 58), event('new', 1), event('new', 2));
  await eventually(async () => expect([await effectsOf('old'), await effectsOf('new')]).toEqual([[57, 58], upTo(2)]));
  // From there on nothing may be missing.
  await publish(event('old', 60), event('old', 5));
  await eventually(async () => expect(await parked()).toEqual([{ sequence: '60', failure: null }]));
  await publish(event('old', 59));
  await eventually(async () => expect(await effectsOf('old')).toEqual([57, 58, 59, 60]));
  const skipped = await database.dataSource.query(
    'SELECT key, missing_from, missing_to, reason FROM inbox_skipped WHERE consumer = $1',
    [consumer],
  );
  const reason = expect.stringContaining('older than what the topic still holds');
  expect(skipped).toEqual([{ key: 'old', missing_from: '1', missing_to: '56', reason }]);
});

it('never makes two processes wait for each other in a circle', async () => {
  const { dataSource } = database;
  const consumer = uniqueName('consumer');
  const keys = Array.from({ length: 40 }, (_, index) => `key-${index}`);
  const deliver = (order: readonly string[], sequence: number) => {
    const events = order.map((key): OrderedEvent => {
      const message = event(key, sequence) as SequencedMessage;
      const { data } = message;
      const settle = () => undefined;
      return { message, data, attempt: 1, fromParking: false, settle, handler: undefined, refusal: undefined };
    });
    return inTransaction(dataSource, (tx) => handleBatch(tx, consumer, events));
  };
  // Each batch has keys that advance, keys with a gap and keys that are not there yet.
  await deliver(keys.slice(0, 20), 1);
  for (const sequence of [2, 1, 3, 2]) {
    await Promise.all([deliver(keys, sequence), deliver([...keys].reverse(), sequence), deliver(keys, sequence + 1)]);
  }
});

it('holds a failing event and its successors, lets other keys pass, and goes on when the failure is cleared', async () => {
  let broken = true;
  const { publish, effectsOf, parked, consumer } = await consume({
    before: ({ message, data }) => {
      if (broken && message.subject === 'sick' && data.n === 2) throw new Error('cannot be applied');
    },
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
  const { publish, effectsOf, parked } = await consume({
    before: ({ attempt, message }) => {
      if (message.subject !== 'flaky') throw new TransientError('always busy');
      attempts.push(attempt);
      if (attempt < 3) throw new TransientError('busy');
    },
  });
  await publish(event('flaky', 1), event('hopeless', 1));
  await eventually(async () => expect(await effectsOf('flaky')).toEqual([1]));
  // In company the batch is halved first, so an attempt may call the handler more than once.
  expect([...new Set(attempts)]).toEqual([1, 2, 3]);
  await eventually(async () =>
    expect(await parked()).toEqual([{ sequence: '1', failure: expect.stringContaining('after 3 attempts') as string }]),
  );
});

it('holds failed attempts against nobody where a process may have died of an event', async () => {
  const consumer = uniqueName('consumer');
  // One that has never said that it ends.
  const killed = 'INSERT INTO inbox_process (consumer, process) VALUES ($1, gen_random_uuid())';
  await database.dataSource.query(killed, [consumer]);
  const attempts = new Set<number>();
  const { publish, effectsOf } = await consume({
    consumer,
    failurePolicy: { maxRetries: 10, backoff: { baseMs: 1, jitter: 0 } },
    before: ({ attempt }) => {
      attempts.add(attempt);
      if (attempt < 9) throw new TransientError('busy');
    },
  });
  await publish(event('flaky', 1), event('flaky', 2));
  await eventually(async () => expect(await effectsOf('flaky')).toEqual([1, 2]));
  expect(attempts.size).toBe(9);
  await eventually(async () => {
    const listed = 'SELECT message_id FROM inbox_suspect WHERE consumer = $1';
    expect(await database.dataSource.query(listed, [consumer])).toEqual([]);
  });
});

it('leaves a failed event to its own time when a second copy comes', async () => {
  const attempts: number[] = [];
  let broken = true;
  const { publish, effectsOf, parked, monitor, consumer } = await consume({
    before: ({ attempt }) => {
      attempts.push(attempt);
      if (broken) throw new Error('cannot be applied');
    },
  });
  await publish(event('k', 1));
  await eventually(async () => expect(await parked()).toMatchObject([{ sequence: '1' }]));
  await publish(event('k', 1), event('k', 1));
  await eventually(() => expect(monitor.totals.duplicates).toBe(2));
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

it('holds a type that it does not know for a human, when it has to know them all', async () => {
  const { events, publish, effectsOf, parked } = await consume({ unknownTypes: 'hold' });
  events.ignore({ type: 'test.retired' });
  const retired = { ...event('well', 1), type: 'test.retired' };
  await publish({ ...event('k', 1), type: 'test.other' }, event('k', 2), retired, event('well', 2));
  await eventually(async () => expect(await effectsOf('well')).toEqual([2]));
  await eventually(async () =>
    expect(await parked()).toMatchObject([
      {
        sequence: '1',
        failure: expect.stringContaining('no handler for test.other; it handles: test.happened') as string,
      },
      { sequence: '2', failure: null },
    ]),
  );
  expect(await effectsOf('k')).toEqual([]);
});

/** Collects what is logged as an error. */
function errorLog() {
  const errors: { readonly message: string; readonly key?: string }[] = [];
  const error = (message: string, details?: object) => errors.push({ message, ...details });
  return { errors, logger: { ...silentLogger, error } };
}

it('escalates a gap that stays open, and not what waits behind a failure; it closes by itself', async () => {
  const { errors, logger } = errorLog();
  const { events, publish, consumer, effectsOf } = await consume({
    logger,
    gapDeadlineMs: 40,
    before: ({ message }) => {
      if (message.subject === 'sick') throw new Error('cannot be applied');
    },
  });
  const gaps = () => openGaps(database.dataSource, { consumer });
  await publish(event('sick', 1), event('sick', 2), event('gap', 1), event('gap', 4));
  await eventually(async () =>
    expect(await gaps()).toEqual([
      { consumer, key: 'gap', missingFrom: 2, missingTo: 3, since: expect.any(Date) as Date },
    ]),
  );
  await eventually(() => expect(events.metrics).toMatchObject({ openGaps: 1, parked: 3 }));
  await eventually(() => expect(errors.filter(({ key }) => key === 'gap').length).toBeGreaterThan(1));
  expect(errors.filter(({ key }) => key === 'gap')[0]).toMatchObject({
    message: expect.stringContaining('Publish them again, or skip them') as string,
    missingFrom: 2,
    missingTo: 3,
  });
  expect(errors.filter(({ key }) => key === 'sick')).toEqual([]);
  await publish(event('gap', 2));
  await eventually(async () => expect(await gaps()).toMatchObject([{ missingFrom: 3, missingTo: 3 }]));
  await publish(event('gap', 3));
  await eventually(async () => expect(await effectsOf('gap')).toEqual([1, 2, 3, 4]));
  expect(await gaps()).toEqual([]);
  await eventually(() => expect(events.metrics).toMatchObject({ openGaps: 0 }));
});

it('reports a gap in one of the processes, at intervals that double', async () => {
  const { dataSource } = database;
  const { publish, consumer } = await consume({ gapDeadlineMs: 3_600_000 });
  await publish(event('gap', 2));
  await eventually(async () => {
    await escalateGaps(dataSource, consumer, 0, 0);
    expect(await openGaps(dataSource, { consumer })).toHaveLength(1);
  });
  const reports = await Promise.all([1, 2, 3].map(() => escalateGaps(dataSource, consumer, 1_000_000, 10)));
  expect(reports.flat()).toMatchObject([{ key: 'gap', missingFrom: 1, missingTo: 1 }]);
  const next = async (): Promise<number> => {
    const seconds = 'extract(epoch FROM report_at - clock_timestamp())::int AS seconds';
    const [row] = await dataSource.query<{ seconds: number }[]>(`SELECT ${seconds} FROM inbox_gap`);
    return row?.seconds ?? 0;
  };
  // As if the time had come.
  const again = async () => {
    await dataSource.query('UPDATE inbox_gap SET report_at = now() WHERE consumer = $1', [consumer]);
    return escalateGaps(dataSource, consumer, 1_000_000, 10);
  };
  expect(await next()).toBeGreaterThan(900);
  expect(await next()).toBeLessThanOrEqual(1_000);
  expect(await again()).toHaveLength(1);
  expect(await next()).toBeGreaterThan(1_900);
});

it('skips what an operator gives up, with the reason, and nothing that has come', async () => {
  const { events, publish, consumer, monitor, effectsOf, parked } = await consume();
  await publish(event('gap', 1), event('gap', 4), event('gap', 5));
  await eventually(async () => expect(await parked()).toHaveLength(2));
  const skip = (upTo: number) => events.skipGap('gap', upTo, 'lost with the old system');
  await expect(skip(4)).rejects.toThrow('misses from 2 to 3 of "gap": skip up to one of those, not up to 4');
  await expect(skip(1)).rejects.toThrow('misses from 2 to 3');
  await expect(events.skipGap('other', 1, 'nothing there')).rejects.toThrow('has no gap at "other"');
  expect(await effectsOf('gap')).toEqual([1]);
  await skip(3);
  await eventually(async () => expect(await effectsOf('gap')).toEqual([1, 4, 5]));
  const skipped = 'SELECT key, missing_from::int, missing_to::int, reason FROM inbox_skipped WHERE consumer = $1';
  expect(await database.dataSource.query(skipped, [consumer])).toEqual([
    { key: 'gap', missing_from: 2, missing_to: 3, reason: 'lost with the old system' },
  ]);
  await publish(event('gap', 3));
  await eventually(() => expect(monitor.totals.duplicates).toBe(1));
  await expect(skip(6)).rejects.toThrow('has no gap at "gap"');
});

it.each([
  ['of a key', { maxParkedPerKey: 10 }],
  ['of the consumer', { maxParked: 10 }],
])(
  'parks no more than it may %s: the partition stands still, the others go on, and so does all in the end',
  async (_, limits) => {
    const { errors, logger } = errorLog();
    const log = new MemoryEventLog();
    const [topic, transport] = [uniqueName('topic'), new MemoryEventTransport(log)];
    const options = { topic, transport, logger, noRoomRetryMs: 50, ...limits };
    const { events, publish, effectsOf, parked, consumer } = await consume(options);
    const committed = () => log.committed(topic, consumer).reduce((sum, offset) => sum + offset);
    const gap = 'gap';
    await publish(
      ...upTo(40)
        .slice(1)
        .map((n) => event(gap, n)),
    );
    await eventually(() => expect(events.metrics.refused).toBeGreaterThanOrEqual(29));
    expect(await parked()).toHaveLength(10);
    // Other keys pass, in its own partition as well.
    const keys = Array.from({ length: 20 }, (_key, index) => `key-${index}`);
    await publish(...keys.flatMap((key) => [event(key, 1), event(key, 2)]));
    for (const key of keys) await eventually(async () => expect(await effectsOf(key)).toEqual([1, 2]));
    expect(await parked()).toHaveLength(10);
    expect(committed()).toBeLessThan(39 + 40);
    await eventually(() =>
      expect(errors).toContainEqual(
        expect.objectContaining({ message: expect.stringContaining('too many events are parked') as string, consumer }),
      ),
    );
    // Published at the end of the partition, and found there.
    await publish(event(gap, 1));
    await eventually(async () => expect(await effectsOf(gap)).toEqual(upTo(40)));
    expect(await parked()).toEqual([]);
    await eventually(() => expect(committed()).toBe(39 + 40 + 1));
  },
);

it('tells when an event has taken effect, here or in another process', async () => {
  const { publish, events, consumer } = await consume();
  const here = events.waitFor('k', 2, { timeoutMs: 10_000 });
  await publish(event('k', 1), event('k', 2));
  expect(await here).toBe(true);
  expect(await events.waitFor('k', 2, { timeoutMs: 10_000 })).toBe(true);
  const elsewhere = events.waitFor('foreign', 1, { timeoutMs: 10_000 });
  await database.dataSource.query(`INSERT INTO inbox_sequence (consumer, key, sequence) VALUES ($1, 'foreign', 1)`, [
    consumer,
  ]);
  expect(await elsewhere).toBe(true);
  expect(await events.waitFor('k', 3, { timeoutMs: 50 })).toBe(false);
  const gone = new AbortController();
  const abandoned = events.waitFor('k', 3, { timeoutMs: 60_000, signal: gone.signal });
  gone.abort();
  expect(await abandoned).toBe(false);
  const stopped = events.waitFor('k', 3, { timeoutMs: 60_000 });
  await events.stop();
  expect(await stopped).toBe(false);
});

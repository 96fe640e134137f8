import { eventually, openTestDataSource, uniqueName, type TestDataSource } from '@starter/testing';
import kafkajs from 'kafkajs';
import { z } from 'zod';
import { CreateMessagingTables1760000000001 } from './database/create-messaging-tables.migration.js';
import { connectKafka } from './kafka/kafka-event-transport.js';
import { silentLogger } from './logger.js';
import { MemoryCommandTransport } from './memory/memory-command-transport.js';
import { MemoryEventLog } from './memory/memory-event-log.js';
import { MemoryEventTransport } from './memory/memory-event-transport.js';
import { createMessage, type Message } from './message.js';
import { Messaging, type MessagingOptions } from './messaging.js';
import type { EventTransport } from './transport/event-transport.js';

const Happened = {
  kind: 'event',
  type: 'test.happened',
  version: 1,
  owner: 'test',
  schema: z.object({ n: z.int() }),
} as const;

interface Log {
  connect(): Promise<EventTransport>;
  raise(topic: string, partitions: number): Promise<void>;
}

function memoryLog(): Log {
  const log = new MemoryEventLog();
  return {
    connect: async () => new MemoryEventTransport(log),
    raise: async (topic, partitions) => log.raisePartitions(topic, partitions),
  };
}

function kafkaLog(list: string): Log {
  const brokers = list.split(',');
  return {
    connect: () => connectKafka({ brokers, clientId: 'spec', lookMs: 500 }),
    raise: async (topic, count) => {
      const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
      await admin.connect();
      await admin.createPartitions({ topicPartitions: [{ topic, count }] });
      await admin.disconnect();
    },
  };
}

const brokers = process.env['KAFKA_BROKERS'];
const logs: [string, () => Log][] = [['memory', memoryLog]];
if (brokers) logs.push(['Kafka', () => kafkaLog(brokers)]);

describe.each(logs)('topics and their owners: %s', (_, open) => {
  const log = open();
  const databases: TestDataSource[] = [];
  const stops: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const stop of stops.splice(0).reverse()) await stop();
  });
  afterAll(() => Promise.all(databases.map((database) => database.close())));

  /** A service that reads `topic`, if one is named, in sequence. */
  async function service(name: string, options: Partial<MessagingOptions> = {}, topic?: string) {
    const database = await openTestDataSource([CreateMessagingTables1760000000001]);
    databases.push(database);
    const commands = new MemoryCommandTransport();
    const events = await log.connect();
    const messaging = new Messaging({
      ...{ service: name, dataSource: database.dataSource, commands, events, logger: silentLogger, partitions: 4 },
      ...options,
    });
    const handled: [string, number][] = [];
    if (topic !== undefined) {
      messaging.inSequence(topic, `${name}.reader`).on(Happened, async (received) => {
        for (const { message, data } of received) handled.push([message.subject ?? '', data.n]);
      });
    }
    stops.push(async () => {
      await messaging.beforeApplicationShutdown();
      await Promise.all([commands.close(), events.close()]);
    });
    return { messaging, events, handled };
  }
  const numbered = (subject: string, from: number, to: number): Message[] =>
    Array.from({ length: to - from + 1 }, (_, index) => {
      const n = from + index;
      return createMessage({ type: Happened.type, version: 1, source: 'spec', subject, sequence: n, data: { n } });
    });

  it('a service with 4 partitions reads the topic of one with 12, and either may start first', async () => {
    for (const readerFirst of [true, false]) {
      const [owner, reader] = [uniqueName('user'), uniqueName('email')];
      const user = await service(owner, { partitions: 12 });
      const email = await service(reader, { partitions: 4 }, `${owner}.events`);
      const inOrder = readerFirst ? [email, user] : [user, email];
      for (const { messaging } of inOrder) await messaging.onApplicationBootstrap();
      await eventually(() => expect(email.messaging.problems()).toEqual([]));
      const [first] = await user.events.publish(`${owner}.events`, numbered('a', 1, 3));
      expect(first?.topic).toBe(`${owner}.events`);
      await eventually(() =>
        expect(email.handled).toEqual([
          ['a', 1],
          ['a', 2],
          ['a', 3],
        ]),
      );
    }
  });

  it('a service that reads what nobody owns yet works all the same, and says what it waits for', async () => {
    const topic = uniqueName('nobody');
    const { messaging, events } = await service(uniqueName('reader'), {}, topic);
    await messaging.onApplicationBootstrap();
    expect(messaging.started).toBe(true);
    await eventually(() =>
      expect(messaging.problems()).toEqual([
        {
          part: `${messaging.service}.reader`,
          problem: expect.stringContaining(`topic "${topic}" does not exist yet`),
        },
      ]),
    );
    // Its own topic is there.
    await events.publish(messaging.topic, numbered('a', 1, 1));
  });

  it('an owner whose topic has more partitions than it declares starts, with fewer it says how to raise them', async () => {
    const name = uniqueName('user');
    const { messaging } = await service(name, { partitions: 3 });
    await messaging.onApplicationBootstrap();
    await expect((await service(name, { partitions: 2 })).messaging.onApplicationBootstrap()).resolves.toBeUndefined();
    const tooMany = await service(name, { partitions: 2, topicPartitions: { [`${name}.events`]: 5 } });
    await expect(tooMany.messaging.onApplicationBootstrap()).rejects.toThrow(
      `has 3 partitions, fewer than the 5 that are declared. Raise it first`,
    );
  });

  it('keeps the order of every key while the partitions are raised', async () => {
    const owner = uniqueName('user');
    const user = await service(owner, { partitions: 1 });
    const reader = await service(uniqueName('reader'), {}, `${owner}.events`);
    await user.messaging.onApplicationBootstrap();
    await reader.messaging.onApplicationBootstrap();
    const keys = Array.from({ length: 8 }, (_, index) => `key-${index}`);
    const seen = new Set<number>();
    // A send may fail while the producer learns of new partitions: the relay sends again, and so does this.
    const publish = (from: number, to: number) =>
      eventually(async () => {
        const messages = keys.flatMap((key) => numbered(key, from, to));
        for (const { partition } of await user.events.publish(`${owner}.events`, messages)) seen.add(partition);
      });
    // What lies in the old partition is still being read when the new ones get what comes after it.
    await publish(1, 500);
    await log.raise(`${owner}.events`, 4);
    let last = 500;
    while (seen.size < 3) {
      await publish(last + 1, last + 10);
      last += 10;
    }
    await eventually(() => {
      for (const key of keys) {
        const numbers = reader.handled.filter(([subject]) => subject === key).map(([, n]) => n);
        expect(numbers).toEqual(Array.from({ length: last }, (_, index) => index + 1));
      }
    });
  });
});

// The log in memory keeps everything.
(brokers ? it : it.skip)(
  'names a topic of another service that keeps its events for less than its reader may be away',
  async () => {
    const hour = 3_600_000;
    const list = (brokers ?? '').split(',');
    const name = uniqueName('owner');
    const database = await openTestDataSource([CreateMessagingTables1760000000001]);
    const commands = new MemoryCommandTransport();
    const events = await connectKafka({ brokers: list, clientId: 'spec', lookMs: 50 });
    const admin = new kafkajs.Kafka({ brokers: list, logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
    await events.declare([
      { name, partitions: 1, retentionMs: hour },
      { name: `${name}.keys`, partitions: 1, compacted: true, retentionMs: hour },
    ]);
    const reader = new Messaging({
      ...{ service: uniqueName('reader'), dataSource: database.dataSource, commands, events, logger: silentLogger },
      ...{ partitions: 1, longestOutageMs: 2 * hour },
    });
    const ignore = () => Promise.resolve();
    reader.inSequence(name, `${reader.service}.ordered`).on(Happened, ignore);
    reader.reactTo(name, `${reader.service}.reactor`).on(Happened, ignore);
    reader.reactTo(`${name}.keys`, `${reader.service}.keys`).on(Happened, ignore);
    try {
      await reader.onApplicationBootstrap();
      const problem = expect.stringMatching(
        `topic "${name}" keeps its records for 0.04 days.*retention.ms=${2 * hour}`,
      ) as string;
      const parts = ['ordered', 'reactor'].map((part) => ({ part: `${reader.service}.${part}`, problem }));
      await eventually(() => expect(reader.problems()).toEqual(parts));
      const configEntries = [{ name: 'retention.ms', value: String(3 * hour) }];
      const type = kafkajs.ConfigResourceTypes.TOPIC;
      await admin.alterConfigs({ validateOnly: false, resources: [{ type, name, configEntries }] });
      await eventually(() => expect(reader.problems()).toEqual([]));
    } finally {
      await reader.beforeApplicationShutdown();
      await Promise.all([commands.close(), events.close()]);
      await admin.deleteTopics({ topics: [name, `${name}.keys`, reader.topic] });
      await Promise.all([admin.disconnect(), database.close()]);
    }
  },
);

it('refuses to start with a number of partitions for a topic that the service does not own', async () => {
  const messaging = new Messaging({
    service: 'user-service',
    partitions: 4,
    topicPartitions: { 'email-service.events': 3 },
    logger: silentLogger,
    commands: new MemoryCommandTransport(),
    events: new MemoryEventTransport(),
  } as unknown as MessagingOptions);
  await expect(messaging.onApplicationBootstrap()).rejects.toThrow(
    /does not own email-service.events.*may name user-service.events/,
  );
});

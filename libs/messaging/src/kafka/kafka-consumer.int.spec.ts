import { eventually, uniqueName } from '@starter/testing';
import kafkajs from 'kafkajs';
import type { DataSource } from 'typeorm';
import { silentLogger } from '../logger.js';
import { createMessage } from '../message.js';
import { BacklogSampler } from '../monitor/backlog-sampler.js';
import { QueueMonitor } from '../monitor/queue-monitor.js';
import { done, retry, type Outcome } from '../outcome.js';
import type { Consumer, Delivery } from '../transport/delivery.js';
import { deadLetterTopic, type EventTransport } from '../transport/event-transport.js';
import { connectKafka } from './kafka-event-transport.js';

const brokers = process.env['KAFKA_BROKERS'];
const scenario = brokers ? describe : describe.skip;
const anHourMs = 3_600_000;

scenario('a member of a consumer group', () => {
  const group = 'spec';
  let transport: EventTransport;
  let topic: string;
  let received: [n: number, attempt: number][];
  let outcomeOf: (n: number) => Promise<Outcome>;

  beforeEach(async () => {
    transport = await connectKafka({ brokers: [brokers ?? ''], clientId: 'spec' });
    topic = uniqueName('topic');
    await transport.declare([{ name: topic, partitions: 1 }]);
    received = [];
    outcomeOf = async () => done;
  });
  afterEach(async () => {
    await transport.close();
    const admin = new kafkajs.Kafka({ brokers: [brokers ?? ''], logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
    const existing = await admin.listTopics();
    const ours = [topic, deadLetterTopic(topic, group)];
    await admin.deleteTopics({ topics: ours.filter((name) => existing.includes(name)) });
    await admin.disconnect();
  });

  const handle = ({ message, attempt }: Delivery): Promise<Outcome> => {
    const { n } = message.data as { n: number };
    received.push([n, attempt]);
    return outcomeOf(n);
  };
  const publish = (...numbers: number[]) =>
    transport.publish(
      topic,
      numbers.map((n) => createMessage({ type: 'spec', version: 1, source: 'spec', subject: 'key', data: { n } })),
    );
  const committed = (consumer: Consumer) =>
    eventually(async () => expect({ backlog: await consumer.backlog() }).toEqual({ backlog: 0 }));

  it('keeps the records of a new topic as long as declared, and refuses one that keeps them for less', async () => {
    const day = 24 * anHourMs;
    const kept = uniqueName('kept');
    const declare = (retentionMs: number) => transport.declare([{ name: kept, partitions: 1, retentionMs }]);
    const admin = new kafkajs.Kafka({ brokers: [brokers ?? ''], logLevel: kafkajs.logLevel.NOTHING }).admin();
    await admin.connect();
    try {
      await declare(30 * day);
      const type = kafkajs.ConfigResourceTypes.TOPIC;
      const resources = [{ type, name: kept, configNames: ['retention.ms'] }];
      const described = await admin.describeConfigs({ includeSynonyms: false, resources });
      expect(described.resources[0]?.configEntries[0]?.configValue).toBe(String(30 * day));
      await declare(14 * day);
      await expect(declare(60 * day)).rejects.toThrow(
        /keeps its records for 30 days, less than declared \(for 60 days.*retention\.ms=5184000000/,
      );
      await expect(declare(-1)).rejects.toThrow(/less than declared \(for ever/);
    } finally {
      await admin.deleteTopics({ topics: [kept] });
      await admin.disconnect();
    }
  });

  it('counts as its backlog what the group has not committed', async () => {
    let settle!: (outcome: Outcome) => void;
    const held = new Promise<Outcome>((resolve) => (settle = resolve));
    outcomeOf = () => held;
    const consumer = await transport.subscribe({ topic, group }, handle);
    expect(await consumer.backlog()).toBe(0);
    await publish(1, 2, 3);
    await eventually(() => expect(received).toHaveLength(3));
    expect(await consumer.backlog()).toBe(3);
    settle(done);
    await committed(consumer);
  });

  it('is built anew on demand: what was in hand comes again, what had settled does not, and it goes on', async () => {
    const consumer = await transport.subscribe({ topic, group }, handle);
    await publish(1);
    await committed(consumer);
    outcomeOf = () => new Promise(() => undefined);
    await publish(2);
    await eventually(() =>
      expect(received).toEqual([
        [1, 1],
        [2, 1],
      ]),
    );
    outcomeOf = async () => done;
    consumer.rebuild('spec');
    await eventually(() =>
      expect(received).toEqual([
        [1, 1],
        [2, 1],
        [2, 1],
      ]),
    );
    await publish(3);
    await eventually(() => expect(received.at(-1)).toEqual([3, 1]));
    await committed(consumer);
    expect(consumer.attached).toBe(true);
  });

  it('is left alone while an event holds its partition on purpose, however long nothing comes', async () => {
    outcomeOf = async (n) => (n === 1 ? retry(anHourMs, 'not before an hour') : done);
    const monitor = new QueueMonitor();
    const watched = monitor.consumer(group);
    const consumer = await transport.subscribe({ topic, group }, watched.watch(handle));
    watched.follow(consumer);
    const warnings: string[] = [];
    const logger = { ...silentLogger, warn: (message: string) => void warnings.push(message) };
    const dataSource = { driver: { master: { query: async () => ({ rows: [] }) } } } as unknown as DataSource;
    const sampler = new BacklogSampler({ dataSource, monitor, logger, silentMs: 0 });
    await publish(1, 2);
    await eventually(() =>
      expect(received).toEqual([
        [1, 1],
        [2, 1],
      ]),
    );
    await eventually(() => expect(watched.inFlight).toBe(0));
    await sampler.sample();
    expect(sampler.latest.waiting.get(group)).toBe(2);
    expect(warnings).toEqual([]);
    expect(consumer.attached).toBe(true);
  });
});

import { eventually, uniqueName } from '@starter/testing';
import kafkajs, { type Kafka } from 'kafkajs';
import type { DataSource } from 'typeorm';
import { promisify } from 'node:util';
import { gzip } from 'node:zlib';
import { silentLogger } from '../logger.js';
import { createMessage } from '../message.js';
import { BacklogSampler } from '../monitor/backlog-sampler.js';
import { QueueMonitor } from '../monitor/queue-monitor.js';
import { done } from '../outcome.js';
import type { Consumer, Delivery } from '../transport/delivery.js';
import { deadLetterTopic, type EventTransport } from '../transport/event-transport.js';
import { encodeCloudEvent } from './cloud-event.js';
import { connectKafka } from './kafka-event-transport.js';

const brokers = process.env['KAFKA_BROKERS'];
const scenario = brokers ? describe : describe.skip;

/** What producers of others do that ours does not. */
scenario('records of others', () => {
  const group = 'spec';
  let plain: Kafka;
  let transport: EventTransport;
  let topic: string;
  let received: number[];
  let warnings: string[];

  beforeEach(async () => {
    plain = new kafkajs.Kafka({ brokers: [brokers ?? ''], logLevel: kafkajs.logLevel.NOTHING });
    warnings = [];
    const note = (text: string): void => void warnings.push(text);
    const logger = { ...silentLogger, warn: note, error: note };
    transport = await connectKafka({ brokers: [brokers ?? ''], clientId: 'spec', logger });
    topic = uniqueName('topic');
    await transport.declare([{ name: topic, partitions: 2 }]);
    received = [];
  });
  afterEach(async () => {
    await transport.close();
    const admin = plain.admin();
    await admin.connect();
    await admin.deleteTopics({ topics: [topic, deadLetterTopic(topic, group)] });
    await admin.disconnect();
  });

  const messageOf = (n: number, partition = 0) => ({
    partition,
    ...encodeCloudEvent(createMessage({ type: 'spec', version: 1, source: 'other', subject: 'key', data: { n } })),
  });
  const handle = async ({ message }: Delivery) => {
    received.push((message.data as { n: number }).n);
    return done;
  };
  const subscribe = () => transport.subscribe({ topic, group }, handle);
  /** Each list is a transaction; `false`: it is aborted. */
  const inTransactions = async (...transactions: [commit: boolean, ...numbers: number[]][]): Promise<void> => {
    const transactionalId = uniqueName('transactions');
    const producer = plain.producer({ transactionalId, idempotent: true, maxInFlightRequests: 1 });
    await producer.connect();
    for (const [commit, ...numbers] of transactions) {
      const transaction = await producer.transaction();
      await transaction.send({ topic, messages: numbers.map((n) => messageOf(n)) });
      await (commit ? transaction.commit() : transaction.abort());
    }
    await producer.disconnect();
  };
  const send = async (n: number, partition: number, compression: kafkajs.CompressionTypes): Promise<void> => {
    const producer = plain.producer();
    await producer.connect();
    await producer.send({ topic, compression, messages: [messageOf(n, partition)] });
    await producer.disconnect();
  };
  const committed = async (): Promise<number> => {
    const admin = plain.admin();
    await admin.connect();
    const [offsets] = await admin.fetchOffsets({ groupId: `${topic}.${group}`, topics: [topic] });
    await admin.disconnect();
    return Number(offsets?.partitions.find(({ partition }) => partition === 0)?.offset);
  };
  const hasNothingLeft = (consumer: Consumer, end: number) =>
    eventually(async () => {
      expect({ backlog: await consumer.backlog(), committed: await committed() }).toEqual({
        backlog: 0,
        committed: end,
      });
    });

  it('commits past the end of a transaction, and so lags behind nothing', async () => {
    const consumer = await subscribe();
    await inTransactions([true, 1, 2]);
    await eventually(() => expect(received).toEqual([1, 2]));
    await hasNothingLeft(consumer, 3);
    await inTransactions([true, 3]);
    await eventually(() => expect(received).toEqual([1, 2, 3]));
    await hasNothingLeft(consumer, 5);
  });

  it('commits past transactions that were aborted, at the end, in between, and as all that there is', async () => {
    await inTransactions([false, 1, 2]);
    const consumer = await subscribe();
    await hasNothingLeft(consumer, 3);
    await inTransactions([true, 3], [false, 4, 5], [true, 6], [false, 7]);
    await eventually(() => expect(received).toEqual([3, 6]));
    await hasNothingLeft(consumer, 12);
    await consumer.close();
    const again = await subscribe();
    await inTransactions([true, 8]);
    await eventually(() => expect(received).toEqual([3, 6, 8]));
    await hasNothingLeft(again, 14);
  });

  it('waits for a transaction that is open without being taken for silent', async () => {
    const monitor = new QueueMonitor();
    const watched = monitor.consumer(group);
    const consumer = await transport.subscribe({ topic, group }, watched.watch(handle));
    watched.follow(consumer);
    const dataSource = { driver: { master: { query: async () => ({ rows: [] }) } } } as unknown as DataSource;
    const sampler = new BacklogSampler({ dataSource, monitor, logger: silentLogger, silentMs: 0 });
    const producer = plain.producer({ transactionalId: uniqueName('open'), idempotent: true, maxInFlightRequests: 1 });
    await producer.connect();
    const transaction = await producer.transaction();
    await transaction.send({ topic, messages: [messageOf(1)] });
    for (let n = 0; n < 3; n++) {
      await sampler.sample();
      expect(consumer.attached).toBe(true);
    }
    expect(sampler.latest.waiting.get(group)).toBe(0);
    await transaction.commit();
    await eventually(() => expect(received).toEqual([1]));
    await hasNothingLeft(consumer, 2);
    expect(warnings.filter((text) => text.includes('building it anew'))).toEqual([]);
    await producer.disconnect();
  });

  it('names a batch that cannot be read, reads on in the other partitions, and in this one when it can be read', async () => {
    const { CompressionCodecs: codecs, CompressionTypes: types } = kafkajs;
    const ours = codecs[types.GZIP] as () => object;
    const compress = async ({ buffer }: { readonly buffer: Buffer }) => promisify(gzip)(buffer);
    const decompress = async () => Promise.reject(new Error('no such codec here'));
    codecs[types.GZIP] = () => ({ compress, decompress });
    try {
      const consumer = await subscribe();
      await send(1, 0, types.None);
      await eventually(() => expect(received).toEqual([1]));
      await send(2, 0, types.GZIP);
      const where = `${topic}[0] stands still: the batch of the offsets 1 to 1 (compression: gzip) cannot be read`;
      await eventually(() => expect(consumer.problem).toContain(where));
      await send(3, 0, types.None);
      await send(4, 1, types.None);
      await eventually(() => expect(received).toEqual([1, 4]));
      expect(consumer.attached).toBe(true);
      expect(await consumer.backlog()).toBe(2);
      expect(warnings.filter((text) => text.includes('stands still'))).toHaveLength(1);
      codecs[types.GZIP] = ours;
      consumer.rebuild('spec');
      await eventually(() => expect(received).toEqual([1, 4, 2, 3]));
      await eventually(() => expect(consumer.problem).toBeUndefined());
      await hasNothingLeft(consumer, 3);
    } finally {
      codecs[types.GZIP] = ours;
    }
  });
});

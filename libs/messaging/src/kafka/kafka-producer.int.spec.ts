import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { eventually } from '@starter/testing';
import kafkajs, { type Admin } from 'kafkajs';
import { MessageTooLargeError, NotConfirmedError, publishResults } from '../errors.js';
import { silentLogger } from '../logger.js';
import { createMessage, type Message } from '../message.js';
import type { EventTransport } from '../transport/event-transport.js';
import { connectKafka } from './kafka-event-transport.js';
import { KafkaProducer } from './kafka-producer.js';
import type { PartitionedRecord } from './publication.js';

const brokers = process.env['KAFKA_BROKERS']?.split(',');

const event = (subject: string, bytes = 10): Message =>
  createMessage({ type: 'spec.happened', version: 1, source: 'spec', subject, data: 'x'.repeat(bytes) });

const record: PartitionedRecord = { key: Buffer.from('k'), value: Buffer.from('{}'), headers: {}, partition: 0 };

if (brokers) {
  describe('publishing to Kafka', () => {
    let admin: Admin;
    let topics: string[];
    let transports: EventTransport[];

    beforeAll(async () => {
      admin = new kafkajs.Kafka({ brokers, clientId: 'spec', logLevel: kafkajs.logLevel.NOTHING }).admin();
      await admin.connect();
    });
    afterAll(() => admin.disconnect());
    beforeEach(() => {
      [topics, transports] = [[], []];
    });
    afterEach(async () => {
      await Promise.all(transports.map((transport) => transport.close()));
      if (topics.length > 0) await admin.deleteTopics({ topics });
    });

    async function newTopic(config: Record<string, string> = {}, numPartitions = 1): Promise<string> {
      const topic = `spec-${randomUUID()}`;
      const configEntries = Object.entries(config).map(([name, value]) => ({ name, value }));
      await admin.createTopics({ topics: [{ topic, numPartitions, configEntries }] });
      topics.push(topic);
      return topic;
    }

    async function connected(publishTimeoutMs = 10_000): Promise<EventTransport> {
      const transport = await connectKafka({ brokers: brokers!, clientId: 'spec', publishTimeoutMs });
      transports.push(transport);
      return transport;
    }

    const stored = async (topic: string): Promise<number> =>
      (await admin.fetchTopicOffsets(topic)).reduce((sum, { high }) => sum + Number(high), 0);

    it('lets a topic that confirms nothing hold up no other one', async () => {
      const [dead, healthy] = [`spec-${randomUUID()}`, await newTopic()];
      const producer = new KafkaProducer({ brokers, clientId: 'spec' }, 5_000, silentLogger);
      try {
        // Stands for a topic without enough replicas, which one node cannot show: kafkajs asks for seconds where it is.
        let over = false;
        const publishing = producer.send(dead, [record]).finally(() => (over = true));
        for (let n = 0; n < 20; n += 1) await producer.send(healthy, [record]);
        expect(over).toBe(false);
        const [result] = await publishing;
        expect(result).toMatchObject({ name: 'UnroutableError', blames: 'destination' });
        expect(await stored(healthy)).toBe(20);
      } finally {
        await producer.close();
      }
    });

    it.each([1, 3])(
      'finds the records that the broker refuses among %i partition(s), and writes the others',
      async (n) => {
        const topic = await newTopic({ 'max.message.bytes': '3000' }, n);
        const transport = await connected();
        const messages = Array.from({ length: 60 }, (_, n) => event(`key-${n % 20}`, n === 7 || n === 31 ? 4_000 : 10));
        const error: unknown = await transport.publish(topic, messages).catch((reason: unknown) => reason);
        expect(error).toBeInstanceOf(MessageTooLargeError);
        const results = publishResults(error, messages.length);
        const failed = results.flatMap((result, index) => (result instanceof Error ? [[index, result.name]] : []));
        expect(failed).toEqual([
          [7, 'MessageTooLargeError'],
          // Behind 7 and 31 in their keys.
          [27, 'NotConfirmedError'],
          [31, 'MessageTooLargeError'],
          [47, 'NotConfirmedError'],
          [51, 'NotConfirmedError'],
        ]);
        await transport.publish(topic, [event('key-7'), event('after')]);
      },
    );

    it('gives up in time on a broker that takes connections and answers nothing, and goes on when it answers', async () => {
      const topic = await newTopic();
      const upstream = new URL(`tcp://${brokers[0]}`);
      const silent = await SilentBroker.listen(upstream);
      const producer = new KafkaProducer({ brokers: [silent.address], clientId: 'spec' }, 300, silentLogger);
      try {
        const all = await Promise.all(Array.from({ length: 500 }, () => producer.send(topic, [record])));
        for (const [result] of all) expect(result).toBeInstanceOf(NotConfirmedError);
        expect(producer.connected).toBe(false);
        silent.answer();
        await eventually(async () => {
          const [result] = await producer.send(topic, [record]);
          expect(result).toMatchObject({ topic, partition: 0 });
        });
        expect(producer.connected).toBe(true);
      } finally {
        await producer.close();
        await silent.close();
      }
    });
  });
}

/** Takes connections and swallows what comes, until it is told to pass it on. */
class SilentBroker {
  private readonly sockets = new Set<Socket>();
  private answers = false;
  private readonly server: Server;

  private constructor(upstream: URL) {
    this.server = createServer((client) => {
      this.keep(client);
      client.on('data', () => undefined);
      if (!this.answers) return;
      const broker = connect(Number(upstream.port), upstream.hostname);
      this.keep(broker);
      client.pipe(broker).pipe(client);
    });
  }

  static async listen(upstream: URL): Promise<SilentBroker> {
    const broker = new SilentBroker(upstream);
    broker.server.listen(0, '127.0.0.1');
    await once(broker.server, 'listening');
    return broker;
  }

  get address(): string {
    return `127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  /** New connections are passed on; those there are stay silent. */
  answer(): void {
    this.answers = true;
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) socket.destroy();
    this.server.close();
    await once(this.server, 'close');
  }

  private keep(socket: Socket): void {
    this.sockets.add(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => this.sockets.delete(socket));
  }
}

import * as contracts from '@starter/contracts';
import { commandQueue, eventTopic, services, UserActivated, workflowReplies } from '@starter/contracts';
import { commandsExchange } from '@starter/messaging';
import { connect, type ConsumeMessage } from 'amqplib';
import { Kafka, logLevel, type KafkaMessage } from 'kafkajs';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from './database.js';
import type { Random } from './random.js';
import type { System } from './system.js';

/** Marks what a plain client here has sent, so that it is not copied again. */
const mark = 'x-chaos-copy';
const windowSize = 100;

const commands = Object.values(contracts).filter(
  (exported) => typeof exported === 'object' && 'kind' in exported && exported.kind === 'command',
);
const routingKeys = [...commands.map((command) => (command as { type: string }).type), workflowReplies];

type End = () => Promise<void>;

/** Sends every command twice more, the copies shuffled in windows. */
export async function copyCommands({ backends }: System, random: Random): Promise<End> {
  const connection = await connect(backends.rabbitMq.server.url);
  const channel = await connection.createConfirmChannel();
  const { queue } = await channel.assertQueue('', { exclusive: true });
  for (const routingKey of routingKeys) await channel.bindQueue(queue, commandsExchange, routingKey);
  const window = new Window<ConsumeMessage>(random, async (copies) => {
    for (const { fields, properties, content } of copies) {
      const { headers, ...rest } = properties;
      channel.publish(commandsExchange, fields.routingKey, content, { ...rest, headers: { ...headers, [mark]: 1 } });
    }
    await channel.waitForConfirms();
  });
  const { consumerTag } = await channel.consume(
    queue,
    (raw) => {
      if (raw && raw.properties.headers?.[mark] === undefined) window.add(raw);
    },
    { noAck: true },
  );
  return async () => {
    await channel.cancel(consumerTag);
    await window.close();
    await connection.close();
  };
}

/** Publishes every event twice more, the copies shuffled in windows. */
export async function copyEvents({ backends }: System, random: Random): Promise<End> {
  const kafka = new Kafka({ clientId: 'chaos-copies', brokers: [backends.kafka.url], logLevel: logLevel.NOTHING });
  const [producer, consumer] = [kafka.producer(), kafka.consumer({ groupId: `chaos-${randomUUID()}` })];
  await Promise.all([producer.connect(), consumer.connect()]);
  await consumer.subscribe({ topics: services.map(eventTopic), fromBeginning: false });
  const window = new Window<{ topic: string; message: KafkaMessage }>(random, async (copies) => {
    for (const topic of new Set(copies.map((copy) => copy.topic))) {
      const messages = copies
        .filter((copy) => copy.topic === topic)
        .map(({ message: { key, value, headers } }) => ({ key, value, headers: { ...headers, [mark]: '1' } }));
      await producer.send({ topic, acks: -1, messages });
    }
  });
  await consumer.run({
    eachMessage: async ({ topic, message }) => {
      if (message.headers?.[mark] === undefined) window.add({ topic, message });
    },
  });
  return async () => {
    await consumer.disconnect();
    await window.close();
    await producer.disconnect();
  };
}

/** Gathers what comes, and lets two copies of each go shuffled: when it is full, and when it is closed. */
class Window<T> {
  private items: T[] = [];
  private emptied: Promise<void> = Promise.resolve();

  constructor(
    private readonly random: Random,
    private readonly send: (copies: readonly T[]) => Promise<void>,
  ) {}

  add(item: T): void {
    if (this.items.push(item) >= windowSize) this.empty();
  }

  async close(): Promise<void> {
    this.empty();
    await this.emptied;
  }

  private empty(): void {
    const copies = this.random.shuffled([...this.items, ...this.items]);
    this.items = [];
    this.emptied = this.emptied.then(() => this.send(copies));
  }
}

/** A user's event comes before its predecessor; only that key may wait. */
export async function publishWithGap({ backends }: System, ms: number): Promise<void> {
  const kafka = new Kafka({ clientId: 'chaos-gap', brokers: [backends.kafka.url], logLevel: logLevel.NOTHING });
  const producer = kafka.producer();
  await producer.connect();
  const userId = randomUUID();
  const publish = (sequence: number) =>
    producer.send({
      topic: eventTopic('user-service'),
      acks: -1,
      messages: [
        {
          key: `stranger-${userId}`,
          value: JSON.stringify({ userId }),
          headers: {
            ce_specversion: '1.0',
            ce_id: randomUUID(),
            ce_type: UserActivated.type,
            ce_source: 'chaos',
            ce_sequence: String(sequence),
          },
        },
      ],
    });
  for (const sequence of [2, 3]) await publish(sequence);
  await sleep(ms);
  await publish(1);
  await producer.disconnect();
}

/** Bytes that are no message, a type that nobody knows, and data that does not fit its schema. */
export async function publishPoison({ backends, databaseOf }: System): Promise<void> {
  const connection = await connect(backends.rabbitMq.server.url);
  const channel = await connection.createConfirmChannel();
  const queue = commandQueue('user-service');
  channel.publish('', queue, Buffer.from([0xff, 0xfe, 0]), { persistent: true });
  channel.publish('', queue, Buffer.from('{'), { persistent: true, messageId: randomUUID(), type: 'user.activate' });
  channel.publish('', queue, Buffer.from('{}'), { persistent: true, messageId: randomUUID(), type: 'user.levitate' });
  channel.publish('', queue, Buffer.from('{}'), { persistent: true, messageId: randomUUID(), type: 'user.activate' });
  await channel.waitForConfirms();
  await connection.close();
  while ((await ask(databaseOf('user-service'), 'SELECT FROM dead_letter')).length !== 3) await sleep(100);
}

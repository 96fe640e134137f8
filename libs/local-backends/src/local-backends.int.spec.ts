import { existsSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { connect as connectRabbitMq } from 'amqplib';
import { Kafka, logLevel } from 'kafkajs';
import pg from 'pg';
import { startKafka, startPostgres, startRabbitMq, type Backend } from './index.js';
import { runningProcesses } from './running-processes.js';

// Set by the test setup, which also says in the summary what is missing and how to get it.
const scenario = process.env['NATIVE_BROKERS'] === 'missing' ? describe.skip : describe;

let postgres: Backend;
let rabbitMq: Backend;
let kafka: Backend;

/** The temporary folders of our servers, by the command lines of our child processes. */
function foldersInUse(): string[] {
  const children = runningProcesses().filter(({ parent }) => parent === process.pid);
  return [
    ...new Set(children.flatMap(({ command }) => /\S+starter-(?:postgres|rabbitmq|kafka)-\w+/.exec(command) ?? [])),
  ];
}

scenario('PostgreSQL, RabbitMQ and Kafka', () => {
  beforeAll(async () => {
    [postgres, rabbitMq, kafka] = await Promise.all([startPostgres(), startRabbitMq(), startKafka()]);
  }, 240_000);

  afterAll(async () => {
    await Promise.allSettled([postgres?.stop(), rabbitMq?.stop(), kafka?.stop()]);
  });

  describe('after a kill and a new start', () => {
    // Side by side: the wait for the slowest server is the only one.
    const restarted: Record<string, unknown> = {};

    beforeAll(async () => {
      await Promise.all([
        keepsRow().then((result) => (restarted['row'] = result)),
        keepsMessage().then((result) => (restarted['message'] = result)),
        keepsRecord().then((result) => (restarted['record'] = result)),
      ]);
    }, 120_000);

    it('PostgreSQL has a committed row', () => expect(restarted['row']).toBe('row'));
    it('RabbitMQ has a confirmed message of a durable queue', () => expect(restarted['message']).toBe('message'));
    it('Kafka has an acknowledged record', () => expect(restarted['record']).toBe('record'));
  });

  it('RabbitMQ leaves a delivery with its consumer for longer than a task may run', async () => {
    expect(await rabbitMq.control('eval', 'application:get_env(rabbit, consumer_timeout).')).toContain('{ok,3600000}');
  });

  it('leaves no process and no temporary folder after `stop`', async () => {
    const folders = foldersInUse();
    expect(folders).toHaveLength(3);
    await Promise.all([postgres, rabbitMq, kafka].flatMap((backend) => [backend.stop(), backend.stop()]));
    const remaining = runningProcesses().filter(({ command }) => folders.some((folder) => command.includes(folder)));
    expect(remaining).toEqual([]);
    expect(folders.filter(existsSync)).toEqual([]);
  });
});

async function query(url: string, sql: string): Promise<Record<string, unknown>[]> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

async function keepsRow(): Promise<unknown> {
  await query(postgres.url, `CREATE TABLE kept AS SELECT 'row' AS value`);
  await postgres.kill();
  await postgres.start();
  return (await query(postgres.url, 'SELECT value FROM kept'))[0]?.['value'];
}

async function keepsMessage(): Promise<unknown> {
  const before = await connectRabbitMq(rabbitMq.url);
  before.on('error', () => {}); // The kill below.
  const publisher = await before.createConfirmChannel();
  publisher.on('error', () => {});
  await publisher.assertQueue('kept', { durable: true, arguments: { 'x-queue-type': 'quorum' } });
  publisher.sendToQueue('kept', Buffer.from('message'), { persistent: true });
  await publisher.waitForConfirms();
  await delay(5_000); // RabbitMQ 3.10 writes the name of a new quorum queue to disk up to 3 s late.
  await rabbitMq.kill();
  await rabbitMq.start();

  const after = await connectRabbitMq(rabbitMq.url);
  try {
    const consumer = await after.createChannel();
    const message = await consumer.get('kept', { noAck: true });
    return message && message.content.toString();
  } finally {
    await after.close();
  }
}

async function keepsRecord(): Promise<unknown> {
  const client = new Kafka({ brokers: [kafka.url], logLevel: logLevel.NOTHING });
  const admin = client.admin();
  await admin.connect();
  await admin.createTopics({ topics: [{ topic: 'kept' }], waitForLeaders: true });
  await admin.disconnect();
  const producer = client.producer();
  await producer.connect();
  await producer.send({ topic: 'kept', acks: -1, messages: [{ value: 'record' }] });
  await producer.disconnect();
  await kafka.kill();
  await kafka.start();

  const consumer = client.consumer({ groupId: 'kept' });
  await consumer.connect();
  await consumer.subscribe({ topic: 'kept', fromBeginning: true });
  const value = await new Promise((resolve, reject) => {
    // A consumer that is too early for the restarted broker ("coordinator is loading") starts again by itself.
    consumer.on('consumer.crash', ({ payload }) => payload.restart || reject(payload.error));
    void consumer.run({ eachMessage: async ({ message }) => resolve(message.value?.toString()) });
  });
  await consumer.disconnect();
  return value;
}

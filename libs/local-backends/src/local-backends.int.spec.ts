import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { connect as connectRabbitMq } from 'amqplib';
import { Kafka, logLevel } from 'kafkajs';
import pg from 'pg';
import { startKafka, startPostgres, startRabbitMq, type Backend } from './index.js';
import { runningProcesses } from './running-processes.js';

let temporaryFolder: string;
let originalTmpdir: string | undefined;
let postgres: Backend;
let rabbitMq: Backend;
let kafka: Backend;

/** Processes that belong to the servers of this file: all have its temporary folder in their command line. */
const ownProcesses = () => runningProcesses().filter(({ command }) => command.includes(temporaryFolder));

beforeAll(async () => {
  // The servers create their folders below a folder of ours, so that we see what they leave behind.
  temporaryFolder = await mkdtemp(join(tmpdir(), 'local-backends-spec-'));
  originalTmpdir = process.env['TMPDIR'];
  process.env['TMPDIR'] = temporaryFolder;
  [postgres, rabbitMq, kafka] = await Promise.all([startPostgres(), startRabbitMq(), startKafka()]);
}, 240_000);

afterAll(async () => {
  await Promise.allSettled([postgres?.stop(), rabbitMq?.stop(), kafka?.stop()]);
  if (originalTmpdir === undefined) delete process.env['TMPDIR'];
  else process.env['TMPDIR'] = originalTmpdir;
  await rm(temporaryFolder, { recursive: true, force: true });
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

it('refuses a data folder that a running server uses', async () => {
  const dataDir = await mkdtemp(join(temporaryFolder, 'shared-'));
  const first = await startPostgres({ dataDir });
  await expect(startPostgres({ dataDir })).rejects.toThrow(/is in use by process \d+/);
  await first.stop();
});

it('keeps the data of a given folder after `stop`', async () => {
  const dataDir = await mkdtemp(join(temporaryFolder, 'kept-'));
  const first = await startPostgres({ dataDir });
  await query(first.url, 'CREATE TABLE kept (value text)');
  await first.stop();
  const second = await startPostgres({ dataDir });
  await expect(query(second.url, 'SELECT * FROM kept')).resolves.toEqual([]);
  await second.stop();
  await rm(dataDir, { recursive: true });
});

it('leaves no process and no temporary folder after `stop`', async () => {
  expect(ownProcesses().length).toBeGreaterThanOrEqual(3);
  await Promise.all([postgres, rabbitMq, kafka].flatMap((backend) => [backend.stop(), backend.stop()]));
  expect(ownProcesses()).toEqual([]);
  expect((await readdir(temporaryFolder)).filter((name) => name.startsWith('starter-'))).toEqual([]);
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
  await rabbitMq.kill();
  await rabbitMq.start();

  const after = await connectRabbitMq(rabbitMq.url);
  const consumer = await after.createChannel();
  const message = await consumer.get('kept', { noAck: true });
  await after.close();
  return message && message.content.toString();
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
    consumer.on('consumer.crash', ({ payload }) => reject(payload.error));
    void consumer.run({ eachMessage: async ({ message }) => resolve(message.value?.toString()) });
  });
  await consumer.disconnect();
  return value;
}

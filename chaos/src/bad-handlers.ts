import { ActivateUser, commandQueue, eventTopic, UserActivated } from '@starter/contracts';
import { connect } from 'amqplib';
import { Kafka, logLevel } from 'kafkajs';
import { execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { ask } from './database.js';
import type { Fault } from './fault.js';
import type { System } from './system.js';

/** Deaths until a message that kills its process is a dead letter (`consumer/suspects.ts` of the messaging library). */
const deathsPerKiller = 6;
const givesUpAfterMs = 180_000;

/** Whoever gets one of these commands dies; those that were in hand with it must not suffer for it. */
export const killerCommand: Fault = {
  name: 'command whose handler kills its process',
  killShare: 0,
  deadLetters: 2,
  inject: async ({ system }) => {
    const ids = [randomUUID(), randomUUID()];
    await whileHandlersOf(system, ids, 'kill', () => publishCommands(system, ids));
  },
};

/** Neither the other keys of its partition nor its successor may suffer; the latter waits until an operator has redriven it. */
export const killerEvent: Fault = {
  name: 'event whose handler kills its process, mended and redriven',
  killShare: 0,
  inject: async ({ system }) => {
    const [id, successor] = [randomUUID(), randomUUID()];
    await whileHandlersOf(system, [id], 'kill', () => publishEvents(system, [id, successor]));
    await mendAndRedrive(system, [id]);
  },
};

/** Others go on, and the successor of the event waits behind it. */
export const thrower: Fault = {
  name: 'handlers that always throw, mended and redriven',
  killShare: 0,
  short: true,
  inject: async ({ system }) => {
    const [command, event, successor] = [randomUUID(), randomUUID(), randomUUID()];
    await whileHandlersOf(system, [command, event], 'throw', async () => {
      await publishCommands(system, [command]);
      await publishEvents(system, [event, successor]);
    });
    await mendAndRedrive(system, [command, event]);
  },
};

/** Every process has a bad handler for these messages, until all of them are dead letters. */
async function whileHandlersOf(
  system: System,
  ids: readonly string[],
  action: 'kill' | 'throw',
  publish: () => Promise<void>,
): Promise<void> {
  const instances = system.instancesOf('user-service');
  const deaths = () => instances.reduce((total, { kills }) => total + kills, 0);
  const begun = deaths() + instances.length;
  for (const instance of instances) {
    instance.everyLife = ids.map((id) => `message.handling=${id}:${action}`).join(',');
    instance.kill();
  }
  while (deaths() < begun) await sleep(50);
  await publish();
  const since = performance.now();
  while ((await deadLetters(system, ids)) < ids.length) {
    if (performance.now() - since > givesUpAfterMs)
      throw new Error(`messages still ${action}, and are no dead letters`);
    await sleep(200);
  }
  for (const instance of instances) instance.everyLife = undefined;
  const most = action === 'kill' ? deathsPerKiller * ids.length : 0;
  if (deaths() - begun > most) throw new Error(`${deaths() - begun} deaths instead of ${most} at most`);
}

async function publishCommands({ backends }: System, ids: readonly string[]): Promise<void> {
  const connection = await connect(backends.rabbitMq.server.url);
  const channel = await connection.createConfirmChannel();
  for (const messageId of ids) {
    const content = Buffer.from(JSON.stringify({ userId: randomUUID() }));
    const properties = { persistent: true, messageId, type: ActivateUser.type };
    channel.publish('', commandQueue('user-service'), content, properties);
  }
  await channel.waitForConfirms();
  await connection.close();
}

/** One after the other, of somebody whom nobody knows. */
async function publishEvents({ backends }: System, ids: readonly string[]): Promise<void> {
  const kafka = new Kafka({ clientId: 'chaos-killer', brokers: [backends.kafka.url], logLevel: logLevel.NOTHING });
  const producer = kafka.producer();
  await producer.connect();
  const userId = randomUUID();
  const messages = ids.map((id, index) => ({
    key: `stranger-${userId}`,
    value: JSON.stringify({ userId }),
    headers: {
      ce_specversion: '1.0',
      ce_id: id,
      ce_type: UserActivated.type,
      ce_source: 'chaos',
      ce_sequence: String(index + 1),
    },
  }));
  await producer.send({ topic: eventTopic('user-service'), acks: -1, messages });
  await producer.disconnect();
}

/** The next lives have good handlers again. */
async function mendAndRedrive(system: System, ids: readonly string[]): Promise<void> {
  for (const instance of system.instancesOf('user-service')) instance.kill();
  const program = fileURLToPath(new URL('../../cli/dist/dead-letters.js', import.meta.url));
  const database = system.databaseOf('user-service');
  await promisify(execFile)(process.execPath, [program, 'redrive', ...ids, '--database-url', database]);
}

async function deadLetters({ databaseOf }: System, ids: readonly string[]): Promise<number> {
  const sql = 'SELECT count(*)::int AS n FROM dead_letters WHERE id = ANY($1)';
  const [row] = await ask<{ n: number }>(databaseOf('user-service'), sql, [ids]);
  return row?.n ?? 0;
}

import { commandQueue } from '@starter/contracts';
import { connect } from 'amqplib';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from './database.js';
import type { Fault } from './fault.js';
import { whenReady, type System } from './system.js';

const queue = commandQueue('email-service');

/**
 * Nobody takes what is in the queue, and the broker refuses what would go on top: the outbox of the sender keeps it, until the
 * consumer is back and makes room.
 */
export const fullQueue: Fault = {
  name: 'queue full with reject-publish, its consumer stopped',
  killShare: 0,
  inject: async ({ system, scale }) => {
    const consumer = system.services['email-service'];
    await consumer.stop();
    await limitTo(system, 100);
    await sleep(20_000 * scale);
    const held = await heldCommands(system);
    consumer.start();
    await whenReady(consumer);
    if (held === 0) throw new Error(`${queue} took everything: it was to be full; let more users register`);
  },
  // Taking the limit away would leave the channels that were refused blocked for good (rabbitmq-server #12206).
  cleanUp: (system) => limitTo(system, 1_000_000),
};

/** The queue itself is declared with `x-overflow: reject-publish`. */
async function limitTo({ backends }: System, messages: number): Promise<void> {
  const policy = `{"max-length":${messages}}`;
  await backends.rabbitMq.server.control('set_policy', '--apply-to', 'queues', 'full', `^${queue}$`, policy);
}

/** What one consumer needs so long for must wait where there is room for it: at the broker. */
export const slowConsumer: Fault = {
  name: 'consumer 100 times slower',
  killShare: 0,
  short: true,
  clients: 4,
  inject: async ({ system, scale }) => {
    system.mails.answerDelayMs = 1_500;
    // 20 s in the short form.
    await sleep(120_000 * scale ** 1.5);
    const waiting = await messagesIn(system);
    system.mails.answerDelayMs = 0;
    if (waiting === 0) throw new Error(`nothing waits in ${queue}: let more users register, or its handler be slower`);
  },
};

async function heldCommands({ databaseOf }: System): Promise<number> {
  const sql = `SELECT count(*)::int AS n FROM outbox WHERE channel = 'command'`;
  const [row] = await ask<{ n: number }>(databaseOf('orchestrator'), sql);
  return row?.n ?? 0;
}

async function messagesIn({ backends }: System): Promise<number> {
  const connection = await connect(backends.rabbitMq.server.url);
  try {
    const channel = await connection.createChannel();
    return (await channel.checkQueue(queue)).messageCount;
  } finally {
    await connection.close();
  }
}

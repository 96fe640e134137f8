import { ActivateUser, commandQueue } from '@starter/contracts';
import { connect } from 'amqplib';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { ask } from './database.js';
import type { Fault } from './faults.js';
import type { System } from './system.js';

/** Deaths until a command that kills its process is a dead letter (`consumer/suspects.ts` of the messaging library). */
const deathsPerKiller = 5;
const givesUpAfterMs = 180_000;

/** Whoever gets one of these commands dies; those that were in hand with it must not suffer for it. */
export const killer: Fault = {
  name: 'handler that kills its process',
  killShare: 0,
  deadLetters: 2,
  inject: async ({ system }) => {
    const ids = [randomUUID(), randomUUID()];
    const instances = system.instancesOf('user-service');
    const deaths = () => instances.reduce((total, { kills }) => total + kills, 0);
    const deadBefore = await deadLetters(system);
    const begun = deaths() + instances.length;
    for (const instance of instances) {
      instance.everyLife = ids.map((id) => `command.handling=${id}:kill`).join(',');
      instance.kill();
    }
    while (deaths() < begun) await sleep(50);
    await publish(system, ids);
    const since = performance.now();
    while ((await deadLetters(system)) < deadBefore + ids.length && performance.now() - since < givesUpAfterMs) {
      await sleep(200);
    }
    for (const instance of instances) instance.everyLife = undefined;
    if (performance.now() - since > givesUpAfterMs) throw new Error('commands that kill their process go on doing so');
    const most = deathsPerKiller * ids.length;
    if (deaths() - begun > most) throw new Error(`${deaths() - begun} deaths instead of ${most} at most`);
  },
};

const queue = commandQueue('user-service');

async function publish({ backends }: System, ids: readonly string[]): Promise<void> {
  const connection = await connect(backends.rabbitMq.server.url);
  const channel = await connection.createConfirmChannel();
  for (const messageId of ids) {
    const content = Buffer.from(JSON.stringify({ userId: randomUUID() }));
    channel.publish('', queue, content, { persistent: true, messageId, type: ActivateUser.type });
  }
  await channel.waitForConfirms();
  await connection.close();
}

async function deadLetters({ databaseOf }: System): Promise<number> {
  const sql = `SELECT count(*)::int AS n FROM dead_letter WHERE error_type = 'CrashedItsProcess'`;
  const [row] = await ask<{ n: number }>(databaseOf('user-service'), sql);
  return row?.n ?? 0;
}

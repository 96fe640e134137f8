import {
  admitOnce,
  createMessage,
  CreateMessagingTables1760000000001,
  inTransaction,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  migrate,
  silentLogger,
} from '@starter/messaging';
import { setTimeout as sleep } from 'node:timers/promises';
import { DataSource } from 'typeorm';
import { z } from 'zod';

// One of the processes of event-kill.int.spec.ts: it gets 60 events of 20 keys from a log that remembers no offset, each with an
// effect in the database; the handler of one of them may kill the process. It tells of each effect, and ends when all events have.
const [url, order, killer, life] = process.argv.slice(2);
const consumer = 'test.consumer';

const migrations = [CreateMessagingTables1760000000001];
const dataSource = await new DataSource({ type: 'postgres', url, poolSize: 10, migrations }).initialize();
await migrate(dataSource);
await dataSource.query('CREATE TABLE IF NOT EXISTS effect (n int)');

const Happened = { kind: 'event', type: 'test.happened', version: 1, owner: 'test', schema: z.object({ n: z.int() }) };
const events = new MemoryEventTransport();
const messages = Array.from({ length: 60 }, (_, n) => ({
  ...createMessage({ type: Happened.type, version: 1, source: 'test', subject: `key-${n % 20}`, data: { n } }),
  ...{ id: `event-${n}`, sequence: 1 + Math.floor(n / 20) },
}));
const messaging = new Messaging({
  ...{ service: 'test', dataSource, logger: silentLogger, partitions: 3, events },
  // Much longer than the spec: the next process must not wait until this one's has ended.
  leaseMs: 600_000,
  commands: new MemoryCommandTransport(),
});
const consume = {
  'in sequence': () =>
    messaging.inSequence('test.events', consumer).on(Happened, async (received, tx) => {
      for (const { data, message } of received) await effect(tx, data.n, message.id);
    }),
  'in whatever order': () =>
    messaging.reactTo('test.events', consumer).on(Happened, ({ data, message }) =>
      inTransaction(dataSource, async (tx) => {
        const [first] = await admitOnce(tx, [{ consumer, messageId: message.id }]);
        if (first) await effect(tx, data.n, message.id);
      }),
    ),
}[order];
consume();

async function effect(tx, n, id) {
  process.send(n);
  await tx.query({ name: 'effect', text: 'INSERT INTO effect (n) VALUES ($1)' }, [n]);
  // A moment in which those that have come with it begin as well.
  if (id === killer) await sleep(20).then(() => process.kill(process.pid, 'SIGKILL'));
}

const publish = () => events.publish('test.events', messages);
// What comes for the first time comes to a process that runs; what lies there may be what the one before has died of.
await events.declare([{ name: 'test.events', partitions: 3 }]);
if (life !== '1') {
  await publish();
  await sleep(2);
}
await messaging.onApplicationBootstrap();
if (life === '1') await publish();
const { consumers } = messaging.monitor.consumer(consumer);
const ended = () => Object.values(messaging.monitor.consumer(consumer).totals).reduce((sum, count) => sum + count, 0);
while (ended() < messages.length || consumers.some(({ inFlight }) => inFlight > 0)) await sleep(20);
await messaging.beforeApplicationShutdown();
await dataSource.destroy();

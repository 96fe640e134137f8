import {
  createMessage,
  databaseOptions,
  inTransaction,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  silentLogger,
} from '@starter/messaging';
import { createTestDatabase, eventually } from '@starter/testing';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { DataSource } from 'typeorm';

const script = new URL('lease-holder.mjs', import.meta.url).pathname;

it('after a kill the next instance starts at once and sends what waits: a session that has ended is a process that is dead', async () => {
  const database = await createTestDatabase();
  const holder = fork(script, [database.url], { execArgv: [] });
  const dataSource = await new DataSource(databaseOptions({ url: database.url })).initialize();
  const events = new MemoryEventTransport();
  const messaging = new Messaging({
    ...{ service: 'test', dataSource, logger: silentLogger, partitions: 1, leaseMs: 600_000 },
    ...{ commands: new MemoryCommandTransport(), events },
  });
  try {
    await once(holder, 'message');
    await eventually(async () => {
      const [{ n } = { n: 0 }] = await dataSource.query<{ n: number }[]>(
        'SELECT count(*)::int AS n FROM outbox_lease WHERE expires_at > clock_timestamp()',
      );
      expect(n).toBe(16);
    });
    holder.kill('SIGKILL');
    await once(holder, 'close');
    await events.declare([{ name: 'test.events', partitions: 1 }]);
    const message = createMessage({ type: 'test.happened', version: 1, source: 'spec', subject: 'k', data: {} });
    await inTransaction(dataSource, (tx) =>
      messaging.outbox.add(tx, [{ channel: 'event', address: 'test.events', message }]),
    );
    await messaging.onApplicationBootstrap();
    await eventually(async () => expect(await dataSource.query('SELECT FROM outbox')).toEqual([]));
    expect(messaging.relay.published).toBe(1);
  } finally {
    holder.kill('SIGKILL');
    await messaging.beforeApplicationShutdown();
    await dataSource.destroy();
    await database.drop();
  }
}, 60_000);

import { eventually, openTestDataSource, uniqueName, type TestDataSource } from '@starter/testing';
import { z } from 'zod';
import { EventReactor } from '../consumer/event-reactor.js';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { inTransaction } from '../database/transaction.js';
import { silentLogger } from '../logger.js';
import { MemoryEventTransport } from '../memory/memory-event-transport.js';
import { ConsumerMonitor } from '../monitor/consumer-monitor.js';
import { createMessage } from '../message.js';

const Happened = { kind: 'event', type: 'test.happened', version: 1, owner: 'test', schema: z.object({}) } as const;

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());

it('has fewer events in hand while they only wait for a connection, and all of them again afterwards', async () => {
  const { dataSource } = database;
  const [topic, transport, concurrency, count] = [uniqueName('topic'), new MemoryEventTransport(), 200, 600];
  await transport.declare([{ name: topic, partitions: 3 }]);
  let release = (): void => undefined;
  const held = new Promise<void>((resolve) => (release = resolve));
  const monitor = new ConsumerMonitor();
  const reactor = new EventReactor({
    ...{ topic, dataSource, transport, concurrency, monitor },
    consumer: uniqueName('consumer'),
    logger: silentLogger,
  });
  let handled = 0;
  reactor.on(Happened, () =>
    inTransaction(dataSource, async () => {
      await held;
      handled += 1;
    }),
  );
  await reactor.start();
  const event = (_: unknown, n: number) =>
    createMessage({ type: Happened.type, version: 1, source: 'test', subject: `key-${n}`, data: {} });
  await transport.publish(topic, Array.from({ length: count }, event));
  await eventually(() => expect(reactor.flow).toMatchObject({ state: 'slow_down' }));
  release();
  await eventually(() => expect(handled).toBe(count));
  await eventually(() => expect(reactor.flow).toMatchObject({ state: 'normal', limit: concurrency, inFlight: 0 }));
  await reactor.stop();
  await transport.close();
});

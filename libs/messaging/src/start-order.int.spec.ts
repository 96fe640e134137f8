import { eventually, openTestDataSource, type TestDataSource } from '@starter/testing';
import { z } from 'zod';
import { CreateMessagingTables1760000000001 } from './database/create-messaging-tables.migration.js';
import { inTransaction } from './database/transaction.js';
import { silentLogger } from './logger.js';
import { MemoryCommandTransport } from './memory/memory-command-transport.js';
import { MemoryEventTransport } from './memory/memory-event-transport.js';
import { createMessage } from './message.js';
import { Messaging } from './messaging.js';
import { doneAs } from './outcome.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());

const Note = {
  ...({ kind: 'command', type: 'spec.note', version: 1, owner: 'spec' } as const),
  schema: z.strictObject({}),
};

/** An instance; a slow one gets no answer when it wants to consume, before it is told to. */
function instance({ slow = false } = {}) {
  const [commands, events] = [new MemoryCommandTransport(), new MemoryEventTransport()];
  let goOn = (): void => undefined;
  const answer = slow ? new Promise<void>((resolve) => (goOn = resolve)) : Promise.resolve();
  const consume = commands.consume.bind(commands);
  commands.consume = async (...request) => {
    await answer;
    return consume(...request);
  };
  const { dataSource } = database;
  const messaging = new Messaging({
    service: 'spec',
    dataSource,
    logger: silentLogger,
    partitions: 1,
    commands,
    events,
  });
  messaging.commands.handle(Note, async () => doneAs.handled);
  return { messaging, goOn };
}

it('sends what it took from the others, however long its consumers take to start', async () => {
  const [running, starting] = [instance(), instance({ slow: true })];
  await running.messaging.onApplicationBootstrap();
  const started = starting.messaging.onApplicationBootstrap();
  try {
    await eventually(() => expect(running.messaging.relay.metrics.shards).toBe(8));
    const messages = Array.from({ length: 100 }, (_, n) =>
      createMessage({ type: 'spec.happened', version: 1, source: 'spec', subject: `key-${n}`, data: {} }),
    );
    await inTransaction(database.dataSource, (tx) =>
      running.messaging.outbox.add(
        tx,
        messages.map((message) => ({ channel: 'event', address: 'spec.events', message })),
      ),
    );
    await eventually(async () => expect(await database.dataSource.query('SELECT FROM outbox')).toEqual([]));
    expect(starting.messaging.relay.published).toBeGreaterThan(0);
  } finally {
    starting.goOn();
    await started;
    await Promise.all([running, starting].map(({ messaging }) => messaging.beforeApplicationShutdown()));
  }
}, 60_000);

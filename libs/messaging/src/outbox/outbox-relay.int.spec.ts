import { eventually, openTestDataSource, type TestDataSource } from '@starter/testing';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { inTransaction } from '../database/transaction.js';
import { silentLogger } from '../logger.js';
import { createMessage, type Message } from '../message.js';
import type { CommandTransport } from '../transport/command-transport.js';
import type { EventTransport } from '../transport/event-transport.js';
import { Outbox } from './outbox.js';
import { OutboxRelay } from './outbox-relay.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());

const relays: OutboxRelay[] = [];
afterEach(async () => {
  await Promise.all(relays.splice(0).map((relay) => relay.stop()));
  await database.dataSource.query('TRUNCATE outbox');
});

/** Records what reaches the broker, and refuses what `refuse` says. */
function recordingBroker(refuse: (message: Message) => boolean = () => false) {
  const received: Message[] = [];
  const take = (message: Message): void => {
    if (refuse(message)) throw new Error('the broker refused');
    received.push(message);
  };
  const commands = { connected: true, send: async (message: Message) => take(message) };
  const events = {
    connected: true,
    publish: async (topic: string, messages: readonly Message[]) => {
      if (messages.some(refuse)) throw new Error('the broker refused');
      messages.forEach(take);
      return messages.map((_, offset) => ({ topic, partition: 0, offset: String(offset) }));
    },
  };
  return { received, commands: commands as unknown as CommandTransport, events: events as unknown as EventTransport };
}

function startRelay(broker: ReturnType<typeof recordingBroker>, outbox = new Outbox(), leaseMs = 5_000) {
  const { dataSource } = database;
  const relay = new OutboxRelay({ dataSource, outbox, ...broker, logger: silentLogger, pollMs: 20, leaseMs });
  relays.push(relay);
  relay.start();
  return relay;
}

const event = (key: string, sequence: number) =>
  createMessage({ type: 'test.happened', version: 1, source: 's', subject: key, sequence, data: { sequence } });
const entry = (message: Message) => ({ channel: 'event', address: 'test.events', message }) as const;
const write = (outbox: Outbox, ...messages: Message[]) =>
  inTransaction(database.dataSource, (tx) => outbox.add(tx, messages.map(entry)));
const rowsLeft = async () =>
  (await database.dataSource.query<{ n: number }[]>('SELECT count(*)::int AS n FROM outbox'))[0]?.n;

it('publishes what was committed, unchanged, and deletes it', async () => {
  const broker = recordingBroker();
  const outbox = new Outbox();
  startRelay(broker, outbox);
  const message = event('k', 1);
  await write(outbox, message);
  await eventually(async () => expect(await rowsLeft()).toBe(0));
  expect(broker.received).toEqual([message]);
});

it('publishes nothing of a transaction that was rolled back', async () => {
  const broker = recordingBroker();
  const outbox = new Outbox();
  startRelay(broker, outbox);
  const failing = inTransaction(database.dataSource, async (tx) => {
    await outbox.add(tx, [entry(event('k', 1))]);
    throw new Error('rolled back');
  });
  await expect(failing).rejects.toThrow('rolled back');
  const after = event('k', 2);
  await write(outbox, after);
  await eventually(() => expect(broker.received).toEqual([after]));
});

it('keeps a row until the broker has confirmed it', async () => {
  let away = true;
  const broker = recordingBroker(() => away);
  const outbox = new Outbox();
  startRelay(broker, outbox);
  await write(outbox, event('k', 1), event('k', 2));
  await write(outbox, event('other', 1));
  expect(await rowsLeft()).toBe(3);
  away = false;
  await eventually(async () => expect(await rowsLeft()).toBe(0));
  const ofKey = broker.received.filter(({ subject }) => subject === 'k').map(({ sequence }) => sequence);
  expect(ofKey).toEqual([1, 2]);
});

it('sends again, with the same id, what was confirmed but not deleted', async () => {
  const broker = recordingBroker();
  const outbox = new Outbox();
  const message = event('k', 1);
  await write(outbox, message);
  const { dataSource } = database;
  const query = dataSource.query.bind(dataSource);
  let failures = 1;
  const dying = Object.assign(Object.create(dataSource) as typeof dataSource, {
    query: (sql: string, values?: unknown[]) =>
      sql.startsWith('DELETE FROM outbox WHERE position') && failures-- > 0
        ? Promise.reject(new Error('the connection died after the confirm'))
        : query(sql, values),
  });
  const relay = new OutboxRelay({ dataSource: dying, outbox, ...broker, logger: silentLogger, pollMs: 20 });
  relays.push(relay);
  relay.start();
  await eventually(async () => expect(await rowsLeft()).toBe(0));
  expect(broker.received).toEqual([message, message]);
});

it('holds back only the key whose head fails', async () => {
  const poison = event('poisoned', 1);
  const broker = recordingBroker(({ id }) => id === poison.id);
  const outbox = new Outbox();
  await write(outbox, poison, event('poisoned', 2), event('healthy', 1), event('healthy', 2));
  startRelay(broker, outbox);
  await eventually(() => expect(broker.received.map(({ subject }) => subject)).toEqual(['healthy', 'healthy']));
  expect(await rowsLeft()).toBe(2);
});

it.each([
  ['refuses every command', (broker: ReturnType<typeof recordingBroker>) => broker],
  [
    'is away',
    (broker: ReturnType<typeof recordingBroker>) => ({ ...broker, commands: { ...broker.commands, connected: false } }),
  ],
])('lets events out while the command broker %s, however many commands wait', async (_, change) => {
  const broker = recordingBroker(({ type }) => type === 'test.do-it');
  const outbox = new Outbox();
  const commands = Array.from({ length: 3_000 }, (__, n) => ({ ...event(`command-${n}`, 1), type: 'test.do-it' }));
  await inTransaction(database.dataSource, (tx) =>
    outbox.add(
      tx,
      commands.map((message) => ({ channel: 'command', address: message.type, message })),
    ),
  );
  const behind = event('behind', 1);
  await write(outbox, behind);
  startRelay(change(broker), outbox);
  await eventually(async () => expect(await rowsLeft()).toBe(3_000));
  expect(broker.received).toEqual([behind]);
});

it('finds a row that was committed after rows with higher positions went out', async () => {
  const broker = recordingBroker();
  const outbox = new Outbox();
  startRelay(broker, outbox);
  const late = event('late', 1);
  let commitLate = (): void => undefined;
  const blocked = new Promise<void>((resolve) => (commitLate = resolve));
  const slow = inTransaction(database.dataSource, async (tx) => {
    await outbox.add(tx, [entry(late)]);
    await blocked;
  });
  const quick = event('quick', 1);
  await eventually(async () => {
    await write(outbox, quick);
    expect(broker.received.length).toBeGreaterThan(0);
  });
  commitLate();
  await slow;
  await eventually(() => expect(broker.received.map(({ id }) => id)).toContain(late.id));
});

it('has one relay at work, and another takes over when it is gone', async () => {
  const [first, second] = [recordingBroker(), recordingBroker()];
  const outbox = new Outbox();
  startRelay(first, outbox, 300);
  await write(outbox, event('a', 1));
  await eventually(() => expect(first.received).toHaveLength(1));
  startRelay(second, outbox, 300);
  await write(outbox, event('a', 2));
  await eventually(async () => expect(await rowsLeft()).toBe(0));
  expect(second.received).toHaveLength(0);
  await relays.shift()?.stop();
  await write(outbox, event('a', 3));
  await eventually(() => expect(second.received.map(({ sequence }) => sequence)).toEqual([3]));
});

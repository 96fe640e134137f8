import { randomUUID } from 'node:crypto';
import { eventually, openTestDataSource, type TestDataSource } from '@starter/testing';
import type { Pool, QueryConfig } from 'pg';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { DeadLetters } from '../dead-letters/dead-letters.js';
import { inTransaction } from '../database/transaction.js';
import { NotConfirmedError, positionsOf, UnroutableError } from '../errors.js';
import { silentLogger } from '../logger.js';
import { createMessage, type Message } from '../message.js';
import { replyEntry } from '../reply.js';
import type { CommandTransport } from '../transport/command-transport.js';
import type { EventTransport } from '../transport/event-transport.js';
import { Outbox } from './outbox.js';
import { OutboxRelay, type OutboxRelayOptions } from './outbox-relay.js';

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

/** Records what reaches the broker, and refuses what `refuse` says; with `away` it does not answer instead. */
function recordingBroker(refuse: (message: Message) => boolean = () => false, { away = false } = {}) {
  const received: Message[] = [];
  const problem = () => (away ? new NotConfirmedError('no answer') : new UnroutableError('the broker refused'));
  const take = (message: Message): void => {
    if (refuse(message)) throw problem();
    received.push(message);
  };
  const commands = { connected: true, send: async (message: Message) => take(message) };
  const events = {
    connected: true,
    publish: async (topic: string, messages: readonly Message[]) => {
      const stopped = new Set<string | undefined>();
      return positionsOf(
        messages.map((message, offset) => {
          if (stopped.has(message.subject)) return new NotConfirmedError('not sent');
          if (refuse(message)) {
            stopped.add(message.subject);
            return problem();
          }
          received.push(message);
          return { topic, partition: 0, offset: String(offset) };
        }),
      );
    },
  };
  return { received, commands: commands as unknown as CommandTransport, events: events as unknown as EventTransport };
}

function startRelay(
  broker: ReturnType<typeof recordingBroker> & { readonly dataSource?: TestDataSource['dataSource'] },
  outbox = new Outbox(),
  leaseMs = 5_000,
  options: Partial<OutboxRelayOptions> = {},
) {
  const { dataSource = database.dataSource } = broker;
  const relay = new OutboxRelay({
    outbox,
    ...broker,
    dataSource,
    logger: silentLogger,
    pollMs: 20,
    leaseMs,
    ...options,
  });
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

it('sends replies to the same workflow side by side', async () => {
  const count = 10;
  const broker = recordingBroker();
  // It confirms none before it has all of them.
  let confirm: () => void;
  const all = new Promise<void>((resolve) => (confirm = resolve));
  broker.commands.send = (message) => {
    if (broker.received.push(message) === count) confirm();
    return all;
  };
  const outbox = new Outbox();
  startRelay(broker, outbox);
  const replies = Array.from({ length: count }, () => {
    const replyTo = { address: 'replies', subject: 'workflow' };
    const request = createMessage({ type: 'test.do', version: 1, source: 's', replyTo, data: {} });
    return replyEntry(request, { result: null }, 's')!;
  });
  await inTransaction(database.dataSource, (tx) => outbox.add(tx, replies));
  await eventually(async () => expect(await rowsLeft()).toBe(0));
  expect(new Set(broker.received.map(({ id }) => id)).size).toBe(count);
});

it('keeps a row until the broker has confirmed it', async () => {
  let away = true;
  const broker = recordingBroker(() => away, { away: true });
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
  const { master } = dataSource.driver as unknown as {
    master: { query: (statement: { name: string }) => unknown; options: object };
  };
  let failures = 1;
  const query = (statement: { name: string }) =>
    statement.name === 'outbox-delete' && failures-- > 0
      ? Promise.reject(new Error('the connection died after the confirm'))
      : master.query(statement);
  const dying = { driver: { master: { options: master.options, query } } } as unknown as typeof dataSource;
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
  await eventually(async () => expect(await rowsLeft()).toBe(2));
});

it.each([
  ['answers for no command', (broker: ReturnType<typeof recordingBroker>) => broker],
  [
    'is away',
    (broker: ReturnType<typeof recordingBroker>) => ({ ...broker, commands: { ...broker.commands, connected: false } }),
  ],
])('lets events out while the command broker %s, however many commands wait', async (_, change) => {
  const broker = recordingBroker(({ type }) => type === 'test.do-it', { away: true });
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

/** Brokers of two instances that write down in one list what arrives; while one is `frozen`, neither its broker nor its database answers. */
function sharedBroker() {
  const arrived: Message[] = [];
  const instance = () => {
    const state = { trap: false, refuse: false, asked: 0, thawed: Promise.resolve(), thaw: (): void => undefined };
    const freeze = () => {
      state.trap = false;
      state.thawed = new Promise((resolve) => (state.thaw = resolve));
    };
    const publish = async (topic: string, messages: readonly Message[]) => {
      state.asked += messages.length;
      if (state.trap) freeze();
      await state.thawed;
      if (state.refuse) throw new NotConfirmedError('the broker does not answer');
      arrived.push(...messages);
      return messages.map((_, offset) => ({ topic, partition: 0, offset: String(offset) }));
    };
    const dataSource = { driver: { master: freezable(state) } } as unknown as TestDataSource['dataSource'];
    return Object.assign(recordingBroker(), {
      ...{ state, freeze, dataSource },
      events: { connected: true, publish } as unknown as EventTransport,
    });
  };
  return { arrived, first: instance(), second: instance() };
}

/** A pool, and the clients that are made with its options, which answer nothing while frozen. */
function freezable(state: { readonly thawed: Promise<void> }) {
  const { master } = database.dataSource.driver as unknown as { readonly master: Pool };
  type AnyClient = new (options: object) => { query: (...request: unknown[]) => unknown };
  class FreezableClient extends (master.options as unknown as { readonly Client: AnyClient }).Client {
    constructor(options: object) {
      super(options);
      const query = this.query.bind(this);
      this.query = (...request) => state.thawed.then(() => query(...request));
    }
  }
  const query = (statement: QueryConfig) => state.thawed.then(() => master.query(statement));
  return { options: { ...master.options, Client: FreezableClient }, query };
}

it('lets a holder that was frozen delete nothing that its successor has in hand', async () => {
  const { arrived, first, second } = sharedBroker();
  const outbox = new Outbox();
  second.state.refuse = true;
  const frozen = startRelay(first, outbox, 300);
  const message = event('k', 1);
  await eventually(() => expect(frozen.metrics.shards).toBe(16));
  first.state.trap = true;
  await write(outbox, message);
  await eventually(() => expect(first.state.asked).toBe(1));
  const successor = startRelay(second, outbox, 300);
  await eventually(() => expect(successor.problems()).toMatchObject([{ address: 'test.events' }]));
  first.state.thaw();
  await frozen.stop();
  // It was confirmed to the frozen one, who believed to hold the lease; it is the successor's all the same.
  expect(arrived).toEqual([message]);
  expect(await rowsLeft()).toBe(1);
  second.state.refuse = false;
  await eventually(async () => expect(await rowsLeft()).toBe(0));
  expect(arrived).toEqual([message, message]);
});

it('keeps the order of first arrivals per key while holders freeze and are succeeded', async () => {
  const { arrived, first, second } = sharedBroker();
  const outbox = new Outbox();
  startRelay(first, outbox, 300);
  startRelay(second, outbox, 300);
  const keys = Array.from({ length: 30 }, (_, n) => `key-${n}`);
  for (let sequence = 1; sequence <= 40; sequence += 1) {
    const { state, freeze } = sequence % 20 < 10 ? first : second;
    if (sequence % 10 === 5) {
      await eventually(() => expect(relays.map(({ metrics }) => metrics.shards)).toEqual([8, 8]));
      freeze();
    }
    await write(outbox, ...keys.map((key) => event(key, sequence)));
    if (sequence % 10 === 9) {
      // Only when somebody else has published what it has in hand.
      await eventually(() => expect(new Set(arrived.map(({ id }) => id)).size).toBe(sequence * keys.length));
      state.thaw();
    }
  }
  await eventually(async () => expect(await rowsLeft()).toBe(0));
  for (const key of keys) {
    const ofKey = arrived.filter(({ subject }) => subject === key).map(({ sequence }) => sequence ?? 0);
    expect([...new Set(ofKey)]).toEqual(Array.from({ length: 40 }, (_, n) => n + 1));
  }
});

it('shares the shards evenly over the instances, and shares those of one that has gone', async () => {
  const shares = () => relays.map((relay) => relay.metrics.shards).sort((a, b) => a - b);
  startRelay(recordingBroker(), new Outbox(), 400);
  await eventually(() => expect(shares()).toEqual([16]));
  startRelay(recordingBroker(), new Outbox(), 400);
  await eventually(() => expect(shares()).toEqual([8, 8]));
  startRelay(recordingBroker(), new Outbox(), 400);
  await eventually(() => expect(shares()).toEqual([4, 6, 6]));
  await relays.shift()?.stop();
  await eventually(() => expect(shares()).toEqual([8, 8]));
});

it('wakes the instance that holds the shard, long before that one would look', async () => {
  const patient = { pollMs: 60_000 };
  const [holder, writer] = [recordingBroker(), recordingBroker()];
  // Somebody else is alive, so that each leaves shards to the other.
  const other = randomUUID();
  await database.dataSource.query(`INSERT INTO outbox_relay VALUES ($1, 'infinity')`, [other]);
  const written = new Outbox();
  startRelay(holder, new Outbox(), 60_000, patient);
  await eventually(() => expect(relays[0]?.metrics.shards).toBe(8));
  startRelay(writer, written, 60_000, patient);
  await eventually(() => expect(relays[1]?.metrics.shards).toBe(6));
  let sequence = 0;
  await eventually(async () => {
    sequence += 1;
    await write(written, ...Array.from({ length: 20 }, (_, n) => event(`key-${n}`, sequence)));
    expect(holder.received).not.toHaveLength(0);
  });
  await database.dataSource.query(`DELETE FROM outbox_relay WHERE holder = $1`, [other]);
});

it('shows an address that does not answer, and goes on when it does', async () => {
  let away = true;
  const broker = recordingBroker(() => away, { away: true });
  const outbox = new Outbox();
  const relay = startRelay(broker, outbox);
  await write(outbox, event('k', 1));
  await eventually(() =>
    expect(relay.problems()).toMatchObject([{ address: 'test.events', error: 'NotConfirmedError: no answer' }]),
  );
  expect(relay.metrics).toMatchObject({ failingAddresses: 1, heldKeys: 0, published: 0 });
  away = false;
  await eventually(async () => expect(await rowsLeft()).toBe(0));
  expect(relay.problems()).toEqual([]);
});

/** Commands that take `ms` each, one after the other for each key. */
function slowCommands(ms: (message: Message) => number) {
  const sent: Message[] = [];
  const send = async (message: Message) => {
    sent.push(message);
    await new Promise((resolve) => setTimeout(resolve, ms(message)).unref());
  };
  return { ...recordingBroker(), sent, commands: { connected: true, send } as unknown as CommandTransport };
}
const command = (key: string, n: number, address = 'test.do-it') =>
  ({ channel: 'command', address, message: { ...event(key, n), type: 'test.do-it' } }) as const;

it('drains with two instances, although sending takes longer than a lease', async () => {
  const [first, second] = [slowCommands(() => 20), slowCommands(() => 20)];
  const outbox = new Outbox();
  const commands = Array.from({ length: 60 }, (_, n) => command('k', n));
  await inTransaction(database.dataSource, (tx) => outbox.add(tx, commands));
  const since = performance.now();
  startRelay(first, outbox, 500);
  startRelay(second, new Outbox(), 500);
  await eventually(async () => expect(await rowsLeft()).toBe(0), { timeoutMs: 20_000 });
  const sent = [...first.sent, ...second.sent];
  console.info(`${sent.length} sends in ${Math.round(performance.now() - since)} ms`);
  expect(sent.length).toBeLessThanOrEqual(70);
  expect(new Set(sent.map(({ id }) => id)).size).toBe(60);
});

it('lets the other addresses and keys go on while one of them never answers', async () => {
  const never = 2 ** 30;
  const broker = slowCommands(({ subject = '' }) => (subject.startsWith('dead') ? never : 0));
  const outbox = new Outbox();
  startRelay(broker, outbox, 5_000, { window: 10, stopMs: 10 });
  const dead = Array.from({ length: 100 }, (_, n) => command(`dead-${n}`, 1, 'test.dead'));
  await inTransaction(database.dataSource, (tx) => outbox.add(tx, [...dead, command('dead-same', 1)]));
  const alive = Array.from({ length: 100 }, (_, n) => command(`alive-${n}`, 1));
  await inTransaction(database.dataSource, (tx) => outbox.add(tx, alive));
  await write(outbox, event('k', 1));
  await eventually(async () => expect(await rowsLeft()).toBe(101));
});

describe('what a broker refuses', () => {
  const letters = () => new DeadLetters({ dataSource: database.dataSource, service: 's' });
  const rows = async () => (await letters().list()).items;
  afterEach(() => database.dataSource.query('TRUNCATE dead_letter, inbox_discarded'));

  it('becomes a dead letter, holds up the later events of its key, and goes before them when it is redriven', async () => {
    const poison = event('poisoned', 1);
    let refuse = true;
    const broker = recordingBroker(({ id }) => refuse && id === poison.id);
    const outbox = new Outbox();
    const relay = startRelay(broker, outbox);
    await write(outbox, poison, event('poisoned', 2), event('healthy', 1));
    const subjects = () => broker.received.map(({ subject, sequence }) => `${subject}#${sequence}`);
    await eventually(async () =>
      expect(await rows()).toMatchObject([
        { id: poison.id, consumer: 'outbox', kind: 'outgoing', errorType: 'UnroutableError', origin: 'test.events' },
      ]),
    );
    await eventually(() => expect(relay.metrics.heldKeys).toBe(1));
    await write(outbox, event('poisoned', 3), event('healthy', 2));
    await eventually(() => expect(subjects()).toEqual(['healthy#1', 'healthy#2']));
    // Another instance knows as well.
    await relays.shift()?.stop();
    startRelay(broker, outbox);
    await write(outbox, event('healthy', 3));
    await eventually(() => expect(subjects()).toHaveLength(3));
    await letters().redrive({ ids: [poison.id] });
    // Refused again, it is the same dead letter.
    await eventually(async () => expect(await rows()).toMatchObject([{ id: poison.id, redrives: 1 }]));
    expect(await rowsLeft()).toBe(2);
    refuse = false;
    await letters().redrive({ ids: [poison.id] });
    await eventually(async () => expect(await rowsLeft()).toBe(0));
    expect(subjects().slice(3)).toEqual(['poisoned#1', 'poisoned#2', 'poisoned#3']);
    expect(await rows()).toEqual([]);
    expect((await letters().list({ status: 'scheduled' })).items).toEqual([]);
  }, 40_000);

  it('lets the later events go when it is discarded', async () => {
    const poison = event('poisoned', 1);
    const broker = recordingBroker(({ id }) => id === poison.id);
    const outbox = new Outbox();
    startRelay(broker, outbox);
    const behind = event('poisoned', 2);
    await write(outbox, poison, behind);
    await eventually(async () => expect(await rows()).toHaveLength(1));
    await letters().discard({ ids: [poison.id] }, 'nobody can read it');
    await eventually(() => expect(broker.received).toEqual([behind]));
    const kept = await database.dataSource.query<object[]>('SELECT consumer, message_id, reason FROM inbox_discarded');
    expect(kept).toEqual([{ consumer: 'outbox', message_id: poison.id, reason: 'nobody can read it' }]);
  }, 40_000);

  it('keeps nobody waiting, however much it is', async () => {
    const broker = recordingBroker(({ subject }) => subject?.startsWith('refused') ?? false);
    const outbox = new Outbox();
    const relay = startRelay(broker, outbox);
    for (let batch = 0; batch < 30; batch += 1) {
      const refused = Array.from({ length: 1_000 }, (_, n) => command(`refused-${batch}-${n}`, 1, 'nobody.knows'));
      await inTransaction(database.dataSource, (tx) => outbox.add(tx, refused));
    }
    const good = Array.from({ length: 10 }, (_, n) => command(`good-${n}`, 1));
    await inTransaction(database.dataSource, (tx) => outbox.add(tx, good));
    const since = performance.now();
    await eventually(() => expect(broker.received).toHaveLength(10));
    console.info(`10 commands behind 30,000 refused ones took ${Math.round(performance.now() - since)} ms`);
    await eventually(async () => expect(await rowsLeft()).toBe(0), { timeoutMs: 60_000 });
    expect(relay.problems()).toEqual([]);
    expect(await letters().groups()).toMatchObject([{ consumer: 'outbox', type: 'test.do-it', count: 30_000 }]);
  }, 90_000);

  it.each(['event', 'command'] as const)(
    'takes no place of the good ones of its address while it waits: %s',
    async (channel) => {
      const ofKey = (key: string, n: number) => (channel === 'event' ? entry(event(key, n)) : command(key, n));
      const broker = recordingBroker(
        ({ subject, sequence }) => subject === 'refused' && (channel === 'command' || sequence === 1),
      );
      const outbox = new Outbox();
      const [refused, good] = ['refused', 'good'].map((key) => Array.from({ length: 15 }, (_, n) => ofKey(key, n + 1)));
      await inTransaction(database.dataSource, (tx) => outbox.add(tx, refused ?? []));
      await inTransaction(database.dataSource, (tx) => outbox.add(tx, good ?? []));
      startRelay(broker, outbox, 5_000, { window: 10 });
      const sequences = (key: string) =>
        broker.received.filter(({ subject }) => subject === key).map(({ sequence }) => sequence);
      await eventually(() => expect(sequences('good')).toEqual(Array.from({ length: 15 }, (_, n) => n + 1)));
      if (channel === 'command') return;
      expect(await rows()).toEqual([]);
      await eventually(async () => expect(await rows()).toHaveLength(1));
      await letters().discard({ ids: [refused?.[0]?.message.id ?? ''] }, 'nobody can read it');
      await eventually(() => expect(sequences('refused')).toEqual(Array.from({ length: 14 }, (_, n) => n + 2)));
    },
    40_000,
  );

  it('keeps its shards while dead letters are made of their rows', async () => {
    const relay = startRelay(recordingBroker());
    await eventually(() => expect(relay.metrics.shards).toBe(16));
    await inTransaction(database.dataSource, async (tx) => {
      await tx.query({ name: 'spec-lock', text: 'SELECT FROM outbox_lease FOR SHARE' }, []);
      const renewals = `SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()
                           AND query LIKE '%outbox_lease%'`;
      await eventually(async () => expect(await database.dataSource.query(renewals)).toHaveLength(1));
      expect(relay.metrics.shards).toBe(16);
    });
    await eventually(async () => {
      const held = `SELECT count(*)::int AS n FROM outbox_lease WHERE expires_at > clock_timestamp() + interval '4.9 s'`;
      expect(await database.dataSource.query(held)).toEqual([{ n: 16 }]);
    });
    expect(relay.metrics.shards).toBe(16);
  });

  it('costs few statements and few attempts, and the good ones beside it keep going', async () => {
    const { countOf, dataSource } = countingDatabase();
    const count = 4_000;
    let attempts = 0;
    const refused = (message: Message) => {
      if (!message.subject?.startsWith('refused')) return false;
      attempts += 1;
      return true;
    };
    const broker = { ...recordingBroker(refused), dataSource };
    const outbox = new Outbox();
    const commands = Array.from({ length: count }, (_, n) => command(`refused-${n}`, 1, 'nobody.knows'));
    await inTransaction(database.dataSource, (tx) => outbox.add(tx, commands));
    const relay = startRelay(broker, outbox);
    // Good ones come as long as there are refused ones, and none of them waits for those to be gone.
    let written = 0;
    while ((await rowsLeft()) !== 0) {
      const sequence = (written += 1);
      await inTransaction(database.dataSource, (tx) =>
        outbox.add(tx, [command('good', sequence), entry(event('k', sequence))]),
      );
      await eventually(() => expect(new Set(broker.received.map(({ id }) => id)).size).toBe(2 * sequence));
    }
    expect(written).toBeGreaterThan(10);
    for (const subject of ['good', 'k']) {
      const sequences = broker.received
        .filter((message) => message.subject === subject)
        .map(({ sequence }) => sequence);
      expect([...new Set(sequences)]).toEqual(Array.from({ length: written }, (_, n) => n + 1));
    }
    expect(await letters().groups()).toMatchObject([{ consumer: 'outbox', type: 'test.do-it', count }]);
    expect(relay.problems()).toEqual([]);
    console.info(
      `${count} refused: ${attempts} attempts, ${countOf('outbox-refused')} statements, ${written} good ones`,
    );
    expect(attempts).toBeLessThan(2 * count);
    expect(countOf('outbox-refused')).toBeLessThan(count / 20);
  }, 90_000);
});

/** Counts how often each statement is sent, by its name. */
function countingDatabase() {
  const { master } = database.dataSource.driver as unknown as { readonly master: Pool };
  const counts = new Map<string | undefined, number>();
  const query = (statement: QueryConfig) => {
    counts.set(statement.name, (counts.get(statement.name) ?? 0) + 1);
    return master.query(statement);
  };
  const dataSource = { driver: { master: { options: master.options, query } } };
  return {
    countOf: (name: string) => counts.get(name) ?? 0,
    dataSource: dataSource as unknown as TestDataSource['dataSource'],
  };
}

describe('hand-over', () => {
  const sequencesOf = (broker: { readonly received: readonly Message[] }) =>
    broker.received.map(({ sequence }) => sequence);

  it('sends what was committed without reading it, while nobody else is there', async () => {
    const { countOf, dataSource } = countingDatabase();
    const broker = { ...recordingBroker(), dataSource };
    const outbox = new Outbox();
    const relay = startRelay(broker, outbox, 5_000, { pollMs: 60_000 });
    await relay.join();
    await eventually(async () => {
      await write(outbox, event('first', 1));
      expect(broker.received.length).toBeGreaterThan(0);
    });
    await eventually(async () => expect(await rowsLeft()).toBe(0));
    const before = [countOf('outbox-read'), broker.received.length] as const;
    for (let sequence = 1; sequence <= 20; sequence += 1) await write(outbox, event('k', sequence));
    await eventually(async () => expect(await rowsLeft()).toBe(0));
    expect(countOf('outbox-read')).toBe(before[0]);
    expect(sequencesOf(broker).slice(before[1])).toEqual(Array.from({ length: 20 }, (_, n) => n + 1));
  });

  it('ends with the first write of another instance, which waits for nobody', async () => {
    const { countOf, dataSource } = countingDatabase();
    const [broker, outbox, other] = [{ ...recordingBroker(), dataSource }, new Outbox(), randomUUID()];
    startRelay(broker, outbox, 60_000, { pollMs: 60_000 });
    await eventually(async () => {
      const already = countOf('outbox-read');
      await write(outbox, event('first', 1));
      await eventually(async () => expect(await rowsLeft()).toBe(0));
      expect(countOf('outbox-read')).toBe(already);
    });
    const before = broker.received.length;
    // The relay hears nothing of the other instance, and reads nothing.
    await database.dataSource.query(`INSERT INTO outbox_relay (holder, alive_until) VALUES ($1, 'infinity')`, [other]);
    await write(new Outbox(), event('k', 1));
    await write(outbox, event('k', 2));
    await eventually(() => expect(sequencesOf(broker).slice(before)).toEqual([1, 2]));
    // It leaves more behind, and is gone when the relay looks.
    await write(new Outbox(), event('k', 3));
    await database.dataSource.query(`UPDATE outbox_relay SET alive_until = '-infinity' WHERE holder = $1`, [other]);
    await eventually(async () => expect(await othersOf(other)).toBe(0));
    await write(outbox, event('k', 4));
    await eventually(() => expect(sequencesOf(broker).slice(before)).toEqual([1, 2, 3, 4]));
  });

  const othersOf = async (holder: string) =>
    (await database.dataSource.query<unknown[]>('SELECT FROM outbox_relay WHERE holder = $1', [holder])).length;
});

it('goes on in order when the session of its lease is ended, and does not wait for its lease', async () => {
  const [first, second] = [recordingBroker(), recordingBroker()];
  const outbox = new Outbox();
  startRelay(first, outbox, 60_000);
  startRelay(second, outbox, 60_000);
  await eventually(() => expect(relays.map(({ metrics }) => metrics.shards)).toEqual([8, 8]));
  for (let sequence = 1; sequence <= 30; sequence += 1) {
    await write(outbox, ...['a', 'b', 'c', 'd'].map((key) => event(key, sequence)));
    if (sequence % 10 !== 0) continue;
    await database.dataSource.query(
      'SELECT pg_terminate_backend(backend) FROM outbox_relay WHERE alive_until > clock_timestamp()',
    );
  }
  await eventually(async () => expect(await rowsLeft()).toBe(0));
  for (const { received } of [first, second]) {
    for (const key of ['a', 'b', 'c', 'd']) {
      const sequences = received.filter(({ subject }) => subject === key).map(({ sequence = 0 }) => sequence);
      const news = sequences.filter((sequence, at) => !sequences.slice(0, at).includes(sequence));
      expect(news).toEqual(news.toSorted((one, other) => one - other));
    }
  }
  const all = [...first.received, ...second.received].map(({ subject, sequence }) => `${subject} ${sequence}`);
  expect(new Set(all).size).toBe(120);
});

it('refuses to start with a lease that a send may outlast', () => {
  const broker = recordingBroker();
  const options = { dataSource: database.dataSource, outbox: new Outbox(), ...broker, logger: silentLogger };
  const commands = { ...broker.commands, longestSendMs: 5_000 };
  expect(() => new OutboxRelay({ ...options, commands, leaseMs: 7_000 })).toThrow(
    'leaseMs is 7000, and a message may be on its way to its broker for 5000 ms: make it 7500 or more',
  );
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

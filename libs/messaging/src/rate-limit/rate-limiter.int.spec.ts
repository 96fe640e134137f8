import { eventually, openTestDataSource, type TestDataSource } from '@starter/testing';
import { z } from 'zod';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { TransientError } from '../errors.js';
import { silentLogger } from '../logger.js';
import { MemoryCommandBroker } from '../memory/memory-command-broker.js';
import { MemoryCommandTransport } from '../memory/memory-command-transport.js';
import { MemoryEventTransport } from '../memory/memory-event-transport.js';
import { createMessage } from '../message.js';
import { Messaging } from '../messaging.js';
import { connectRabbitMq } from '../rabbitmq/rabbitmq-command-transport.js';
import type { CommandTransport } from '../transport/command-transport.js';

const DoIt = {
  kind: 'command',
  type: 'test.do-it',
  version: 1,
  owner: 'test',
  schema: z.object({ n: z.int() }),
} as const;
const Other = { ...DoIt, type: 'test.other' } as const;

const url = process.env['RABBITMQ_URL'];
const brokers: [string, () => () => Promise<CommandTransport>][] = [
  [
    'memory',
    () => {
      const broker = new MemoryCommandBroker();
      return async () => new MemoryCommandTransport(broker);
    },
  ],
];
if (url) brokers.push(['rabbitmq', () => () => connectRabbitMq({ url })]);

let count = 0;

describe.each(brokers)('rate limits on %s', (_, newBroker) => {
  let database: TestDataSource;
  let connect: () => Promise<CommandTransport>;
  let service: string;
  let running: { messaging: Messaging; transport: CommandTransport }[];
  let handled: number[];
  let others: number;
  let failures: number;
  let attempts: number[];
  let forged: number;

  beforeEach(async () => {
    database = await openTestDataSource([CreateMessagingTables1760000000001]);
    connect = newBroker();
    service = `spec-${process.pid}-${Date.now()}-${(count += 1)}`;
    [running, handled, others, failures, attempts, forged] = [[], [], 0, 0, [], 1];
  });
  afterEach(async () => {
    await stop();
    await database.close();
  });

  /** One process of the service. */
  async function start(rateLimit?: string): Promise<Messaging> {
    const transport = await connect();
    transport.consume = consumeForged(transport);
    const messaging = new Messaging({
      ...{ service, dataSource: database.dataSource, commands: transport, logger: silentLogger, partitions: 1 },
      events: new MemoryEventTransport(),
      failurePolicy: { backoff: { baseMs: 1 } },
    });
    messaging.commands.handle(
      DoIt,
      async ({ data, attempt }) => {
        attempts.push(attempt);
        if (failures-- > 0) throw new TransientError('busy');
        handled.push(data.n);
      },
      { routingKey: `${service}.do-it`, ...(rateLimit ? { rateLimit } : {}) },
    );
    messaging.commands.handle(Other, async () => void (others += 1), { routingKey: `${service}.other` });
    await messaging.onApplicationBootstrap();
    running.push({ messaging, transport });
    return messaging;
  }

  /** What comes without a header that says its attempt has one here, as a foreign sender could write it. */
  function consumeForged(transport: CommandTransport): CommandTransport['consume'] {
    const consume = transport.consume.bind(transport);
    return (queue, handler, options) =>
      consume(queue, (delivery) => handler({ ...delivery, attempt: Math.max(delivery.attempt, forged) }), options);
  }

  async function stop(): Promise<void> {
    for (const { messaging, transport } of running.splice(0)) {
      await messaging.beforeApplicationShutdown();
      await transport.close();
    }
  }

  async function send(numbers: readonly number[], { type }: { type: string } = DoIt): Promise<void> {
    const transport = running[0]?.transport;
    for (const n of numbers) {
      const message = createMessage({ type, version: 1, source: 'spec', data: { n } });
      await transport?.send(message, { routingKey: `${service}.${type.slice('test.'.length)}` });
    }
  }

  async function databaseClock(): Promise<number> {
    const select = 'SELECT extract(epoch FROM clock_timestamp())::float8 * 1000 AS ms';
    const [{ ms }] = await database.dataSource.query<[{ ms: number }]>(select);
    return ms;
  }

  const numbersTo = (n: number) => Array.from({ length: n }, (_, index) => index);
  const waiting = async ({ rateLimits }: Messaging) =>
    (await rateLimits.list()).find(({ type }) => type === DoIt.type)?.waiting ?? 0;

  it('holds a type to its limit over all processes; each message is handled once, in the order in which they came', async () => {
    await start('20/s');
    await start('20/s');
    const began = await databaseClock();
    await send(numbersTo(30));
    await send([0], Other);
    await eventually(() => expect(handled).toHaveLength(30));
    // Two may go at once, those of a tenth of a second; the others follow, 50 ms apart by the clock that counts.
    expect((await databaseClock()) - began).toBeGreaterThanOrEqual(28 * 50);
    expect(handled.toSorted((one, other) => one - other)).toEqual(numbersTo(30));
    expect(others).toBe(1);
  });

  it('a limit that is set at run time comes before the one in the code, also for what waits', async () => {
    const messaging = await start('1/h');
    await send(numbersTo(20));
    await eventually(async () => expect(await waiting(messaging)).toBe(19));
    expect(handled).toEqual([0]);
    await messaging.rateLimits.set(DoIt.type, '1000/s');
    await eventually(() => expect(handled.slice(0, 20)).toEqual(numbersTo(20)));
    // Back to what the code says: one has gone within the hour.
    await messaging.rateLimits.set(DoIt.type, null);
    await eventually(async () => {
      await send([20]);
      expect(await waiting(messaging)).toBeGreaterThan(0);
    });
  });

  it('a limit that is lifted lets everything go', async () => {
    const messaging = await start('1/h');
    await send(numbersTo(5));
    await eventually(async () => expect(await waiting(messaging)).toBe(4));
    await messaging.rateLimits.set(DoIt.type, 'none');
    await eventually(() => expect(handled).toEqual(numbersTo(5)));
    expect(await messaging.rateLimits.list()).toEqual([{ type: DoIt.type, rate: 'none', waiting: 0 }]);
  });

  it('what waits survives a restart of all processes', async () => {
    const before = await start('1/h');
    await send(numbersTo(10));
    await eventually(async () => expect(await waiting(before)).toBe(9));
    await stop();
    const after = await start('1/h');
    expect(await waiting(after)).toBe(9);
    await after.rateLimits.set(DoIt.type, '100/s');
    await eventually(() => expect(handled).toEqual(numbersTo(10)));
  });

  it('lets a retry go, which has waited for its turn before', async () => {
    const messaging = await start('1/h');
    failures = 2;
    await send([0, 1]);
    await eventually(() => expect(handled).toHaveLength(1));
    expect(attempts).toEqual([1, 2, 3]);
    expect(await waiting(messaging)).toBe(1);
  });

  it('believes no header that says that a command has been tried before', async () => {
    const messaging = await start('1/h');
    forged = 2;
    await send(numbersTo(3));
    await eventually(async () => expect(await waiting(messaging)).toBe(2));
    expect(handled).toEqual([0]);
  });

  it('counts on for a retry that has to wait for its turn', async () => {
    const messaging = await start('1/h');
    await send([0]);
    await eventually(() => expect(handled).toEqual([0]));
    forged = 3;
    await send([1]);
    await eventually(async () => expect(await waiting(messaging)).toBe(1));
    forged = 1;
    await messaging.rateLimits.set(DoIt.type, '1000/s');
    await eventually(() => expect(handled).toEqual([0, 1]));
    expect(attempts).toEqual([1, 3]);
  });

  it('a copy that comes with the id of a retry, or under another type, passes nothing in its place', async () => {
    await start('1/h');
    const mark = `INSERT INTO rate_limit_waiting (type, message_id, address, attempt, admitted_at, owes) VALUES ($1, $2, '', 2, now(), true)`;
    const message = createMessage({ type: DoIt.type, version: 1, source: 'spec', data: { n: 1 } });
    await database.dataSource.query(mark, [DoIt.type, message.id]);
    await database.dataSource.query(mark, [Other.type, message.id]);
    const copy = () => running[0]?.transport.send(message, { routingKey: `${service}.do-it` });
    await copy();
    await eventually(() => expect(attempts).toEqual([2]));
    await Promise.all([copy(), copy()]);
    // The mark was for one, and the slot of the hour has gone with it.
    await eventually(async () => {
      const rows = await database.dataSource.query<{ type: string; waits: boolean }[]>(
        `SELECT type, admitted_at IS NULL AS waits FROM rate_limit_waiting ORDER BY type`,
      );
      expect(rows).toEqual([
        { type: DoIt.type, waits: true },
        { type: Other.type, waits: false },
      ]);
    });
    expect(attempts).toEqual([2]);
  });

  it('handles what is redriven and over its limit, in its turn', async () => {
    const messaging = await start('5/s');
    const letters = numbersTo(5).map((n) =>
      createMessage({ type: DoIt.type, version: 1, source: 'spec', subject: `key-${n}`, data: { n } }),
    );
    await database.dataSource.query(
      `INSERT INTO dead_letter (consumer, id, kind, type, error_type, reason, origin, attempts, first_failed_at, failed_at,
                                message, redrivable)
       SELECT $1, message ->> 'id', 'command', $2, 'Error', 'spec', $1, 1, now(), now(), message, true
         FROM json_array_elements($3) AS message`,
      [`${service}.commands`, DoIt.type, JSON.stringify(letters)],
    );
    expect(await messaging.deadLetters.redrive('all')).toMatchObject({ redriven: 5 });
    await eventually(() => expect(handled.toSorted()).toEqual(numbersTo(5)));
    await eventually(async () => {
      for (const status of ['open', 'scheduled'] as const) {
        expect((await messaging.deadLetters.list({ status })).items).toEqual([]);
      }
    });
  });

  it('refuses what is no limit, and shows what is right', async () => {
    const messaging = await start();
    await expect(messaging.rateLimits.set(DoIt.type, '100/fortnight')).rejects.toThrow('such as "5/s"');
    expect(() =>
      messaging.commands.handle({ ...DoIt, type: 'test.more' }, async () => undefined, { rateLimit: '0/s' }),
    ).toThrow('"0/s" is no rate limit');
  });
});

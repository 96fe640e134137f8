import { eventually, openTestDataSource, type TestDataSource } from '@starter/testing';
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { inTransaction } from '../database/transaction.js';
import { DatabaseUnavailableError } from '../database/unavailable.js';
import { TransientError } from '../errors.js';
import { admitOnce } from '../inbox/inbox.js';
import { silentLogger } from '../logger.js';
import { MemoryCommandTransport } from '../memory/memory-command-transport.js';
import { createMessage, type Message } from '../message.js';
import { ConsumerMonitor } from '../monitor/consumer-monitor.js';
import { Outbox } from '../outbox/outbox.js';
import { MemoryCommandBroker } from '../memory/memory-command-broker.js';
import { CommandConsumer } from './command-consumer.js';
import type { MessageHandler } from './dispatcher.js';
import type { HandlerOptions } from './handler-options.js';

const schema = z.strictObject({ n: z.int() });
/** In version 1 the number was a text. */
const upcast = { 1: ({ n }: { n: string }) => ({ n: Number(n) }) };
const DoIt = { kind: 'command', type: 'test.do-it', version: 2, owner: 'test', schema, upcast } as const;

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());

const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
  await database.dataSource.query('TRUNCATE dead_letter');
});

/** The consumer of a service with a broker of its own. */
async function serve(handler: MessageHandler<{ n: number }>, maxRetries = 2, options: HandlerOptions = {}) {
  const broker = new MemoryCommandBroker();
  const transport = new MemoryCommandTransport(broker);
  const monitor = new ConsumerMonitor();
  const consumer = new CommandConsumer({
    service: 'test',
    dataSource: database.dataSource,
    outbox: new Outbox(),
    transport,
    logger: silentLogger,
    monitor,
    failurePolicy: { maxRetries, backoff: { baseMs: 10, jitter: 0 } },
  });
  consumer.handle(DoIt, handler, options);
  await consumer.declare();
  await consumer.start();
  stops.push(async () => {
    await consumer.stop();
    await transport.close();
  });
  const deadLetters = () =>
    database.dataSource.query<Record<string, unknown>[]>(
      `SELECT id, reason, error_type AS "errorType" FROM dead_letter`,
    );
  return { transport, monitor, deadLetters };
}

const command = (data: unknown = { n: 1 }, fields: Partial<Message> = {}) =>
  createMessage({ type: DoIt.type, version: 2, source: 'spec', data, ...fields });

it('hands over decoded data with its envelope', async () => {
  const seen: unknown[] = [];
  const { transport } = await serve(async ({ data, message, attempt }) => void seen.push([data, message.id, attempt]));
  const message = command({ n: 7 });
  await transport.send(message);
  await eventually(() => expect(seen).toEqual([[{ n: 7 }, message.id, 1]]));
});

it('hands over an older version as the current one, in the envelope that it came in', async () => {
  const seen: unknown[] = [];
  const { transport } = await serve(async ({ data, message }) => void seen.push([data, message.version, message.data]));
  await transport.send(command({ n: '7' }, { version: 1 }));
  await eventually(() => expect(seen).toEqual([[{ n: 7 }, 1, { n: '7' }]]));
});

it('records what does not fit its schema, answers its sender once, and handles the next', async () => {
  const seen: number[] = [];
  const { transport, deadLetters, monitor } = await serve(async ({ data }) => void seen.push(data.n));
  const bad = command({ n: 'x', extra: true }, { replyTo: { address: 'asker.replies', subject: randomUUID() } });
  for (const message of [bad, bad, command({ n: 2 })]) await transport.send(message);
  await eventually(() => expect(seen).toEqual([2]));
  await eventually(() => expect(monitor.totals.discarded).toBe(2));
  const [recorded] = await database.dataSource.query<{ reason: string; message: Message }[]>(
    'SELECT reason, message FROM inbox_discarded WHERE message_id = $1',
    [bad.id],
  );
  expect(recorded).toMatchObject({ reason: expect.stringContaining('n: ') as string, message: bad });
  const answers = await database.dataSource.query<{ address: string; message: Message }[]>(
    `SELECT address, message FROM outbox WHERE message->>'causationId' = $1`,
    [bad.id],
  );
  const answer = { type: 'command.failed', subject: bad.replyTo?.subject, data: { requestId: bad.id } };
  expect(answers).toMatchObject([{ address: 'asker.replies', message: answer }]);
  expect(await deadLetters()).toEqual([]);
});

it.each([
  ['an unknown type', { type: 'test.unheard-of' }, 'UnknownType'],
  ['an unknown version', { version: 3 }, 'UnknownVersion'],
])('keeps %s for a human', async (_, fields, errorType) => {
  const seen: number[] = [];
  const { transport, deadLetters } = await serve(async ({ data }) => void seen.push(data.n));
  const odd = command({ n: 1 }, fields);
  await transport.send(odd, { routingKey: DoIt.type });
  await transport.send(command({ n: 2 }));
  await eventually(async () => expect(await deadLetters()).toMatchObject([{ id: odd.id, errorType }]));
  await eventually(() => expect(seen).toEqual([2]));
});

it('tries a transient failure again, at most as often as the policy says, and then gives it to a human', async () => {
  const attempts: number[] = [];
  const { transport, deadLetters } = await serve(async ({ attempt }) => {
    attempts.push(attempt);
    throw new TransientError('busy');
  });
  await transport.send(command());
  await eventually(async () => expect(await deadLetters()).toMatchObject([{ errorType: 'RetriesExhausted' }]));
  expect(attempts).toEqual([1, 2, 3]);
});

it('gives any other failure to a human at once', async () => {
  const { transport, deadLetters } = await serve(async () => {
    throw new RangeError('a defect');
  });
  await transport.send(command());
  await eventually(async () =>
    expect(await deadLetters()).toMatchObject([{ reason: 'RangeError: a defect', errorType: 'RangeError' }]),
  );
});

it('uses up no attempts while the own database is away', async () => {
  const { transport, monitor, deadLetters } = await serve(async () => {
    throw new DatabaseUnavailableError(new Error('connection refused'));
  }, 0);
  await transport.send(command());
  await eventually(() => expect(monitor.totals.retried).toBeGreaterThanOrEqual(2));
  expect(await deadLetters()).toEqual([]);
});

it('fences an attempt that is over its hard time limit: it commits nothing, and the next one proceeds', async () => {
  const { dataSource } = database;
  await dataSource.query('CREATE TABLE effect (attempt int)');
  const late: Promise<string>[] = [];
  let letGo: (() => void) | undefined;
  const held = new Promise<void>((resolve) => (letGo = resolve));
  const { transport, monitor, deadLetters } = await serve(
    async ({ attempt, fence, message }) => {
      const working = inTransaction(
        dataSource,
        async (tx) => {
          // The next attempt would wait for this row for as long as the transaction is open.
          await admitOnce(tx, [{ consumer: 'test.commands', messageId: message.id }]);
          await tx.query({ name: 'effect', text: 'INSERT INTO effect VALUES ($1)' }, [attempt]);
          if (attempt === 1) await held;
        },
        fence,
      );
      if (attempt === 1) late.push(working.then(() => 'committed', String));
      await working;
    },
    2,
    { timeLimit: { hardMs: 1_000 } },
  );
  const effects = () => dataSource.query('SELECT attempt FROM effect');
  await transport.send(command());
  await eventually(async () => expect(await effects()).toEqual([{ attempt: 2 }]));
  expect(await Promise.all(late)).toEqual([expect.stringContaining('hard time limit')]);
  letGo?.();
  expect(await effects()).toEqual([{ attempt: 2 }]);
  expect([monitor.totals.retried, await deadLetters()]).toEqual([1, []]);
});

import { eventually, openTestDataSource, type TestDataSource } from '@starter/testing';
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import {
  createMessage,
  MemoryCommandBroker,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  silentLogger,
} from '@starter/messaging';
import { CreateMessagingTables1760000000001 } from '@starter/messaging';
import { inTransaction, type Statement } from '@starter/messaging';
import { CreateTaskTable1760000000005 } from './create-task-table.migration.js';
import { Tasks } from './tasks.js';

const service = `spec-${randomUUID()}`;
const schema = z.strictObject({ n: z.int() });
const DoIt = { kind: 'command', type: `${service}.do-it`, version: 1, owner: service, schema } as const;
const Export = { kind: 'command', type: `${service}.export`, version: 1, owner: service, schema } as const;
const Happened = { kind: 'event', type: `${service}.happened`, version: 1, owner: service, schema } as const;

const effect: Statement = { name: 'effect', text: 'INSERT INTO effect SELECT $1, unnest($2::int[])' };

let database: TestDataSource;
let commands: MemoryCommandTransport;
let events: MemoryEventTransport;
let messaging: Messaging;
/** Of every call of a handler. */
const attempts = new Map<number, number>();

beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateTaskTable1760000000005]);
  const { dataSource } = database;
  await dataSource.query('CREATE TABLE effect (kind text, n int)');
  commands = new MemoryCommandTransport(new MemoryCommandBroker());
  events = new MemoryEventTransport();
  messaging = new Messaging({ service, dataSource, commands, events, logger: silentLogger, partitions: 1 });
  const count = (attempt: number) => attempts.set(attempt, (attempts.get(attempt) ?? 0) + 1);
  messaging.commands.handle(DoIt, async ({ data, attempt }) => {
    count(attempt);
    await inTransaction(dataSource, (tx) => tx.query(effect, ['command', [data.n]]));
  });
  new Tasks(messaging).handle(Export, async ({ data, attempt, complete }) => {
    count(attempt);
    await complete((tx) => tx.manager.query(effect.text, ['task', [data.n]]));
  });
  messaging.inSequence(`${service}.events`, `${service}.projection`).on(
    Happened,
    async (received, tx) => {
      for (const { attempt } of received) count(attempt);
      await tx.query(effect, ['event', received.map(({ data }) => data.n)]);
    },
    { manyPerKey: true },
  );
  await messaging.onApplicationBootstrap();
});
afterAll(async () => {
  await messaging.beforeApplicationShutdown();
  await Promise.all([commands.close(), events.close()]);
  await database.close();
});

async function readOnly(on: boolean): Promise<void> {
  const name = new URL(database.url).pathname.slice(1);
  await database.dataSource.query(
    `BEGIN READ WRITE; ALTER DATABASE "${name}" SET default_transaction_read_only TO ${on}; COMMIT`,
  );
}

it('takes a primary that has become read-only for what it is: no dead letter, no attempt, and everything takes effect once', async () => {
  let sent = 0;
  const send = async () => {
    const n = (sent += 1);
    const fields = { version: 1, source: 'spec', data: { n } };
    await commands.send(createMessage({ ...fields, type: DoIt.type }));
    await commands.send(createMessage({ ...fields, type: Export.type }));
    const subject = `key-${n % 5}`;
    const message = createMessage({ ...fields, type: Happened.type, subject, sequence: Math.ceil(n / 5) });
    await events.publish(`${service}.events`, [message]);
  };
  // Key 0 begins with 5: every key counts from 1.
  for (let n = 0; n < 20; n += 1) await send();
  await readOnly(true);
  // Those connections speak to the old primary, and will for ever; new ones find it read-only as well, until it is over.
  await database.dataSource.query(
    'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()',
  );
  for (let n = 0; n < 60; n += 1) {
    await send();
    await sleep(50);
  }
  await readOnly(false);
  for (let n = 0; n < 20; n += 1) await send();
  await eventually(async () =>
    expect(
      await database.dataSource.query(
        'SELECT kind, count(*)::int AS stored, count(DISTINCT n)::int AS different FROM effect GROUP BY 1 ORDER BY 1',
      ),
    ).toEqual(['command', 'event', 'task'].map((kind) => ({ kind, stored: sent, different: sent }))),
  );
  expect(await database.dataSource.query('SELECT * FROM dead_letters')).toEqual([]);
  expect([...attempts.keys()]).toEqual([1]);
});

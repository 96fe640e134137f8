import {
  ActorRuntime,
  apply,
  CreateEventStore1760000000002,
  defineActor,
  handle,
  on,
  reject,
} from '@starter/event-sourcing';
import {
  createMessage,
  CreateMessagingTables1760000000001,
  inTransaction,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  silentLogger,
} from '@starter/messaging';
import { openTestDataSource, testPersonalDataKey, type TestDataSource } from '@starter/testing';
import { randomUUID } from 'node:crypto';
import { z } from 'zod';
import { CreatePersonalKeys1760000000004 } from './create-personal-keys.migration.js';
import { PersonalData } from './personal-data.js';

const sealed = z.string().startsWith('sealed:', 'must be sealed');
const options = { version: 1, owner: 'shop' } as const;
const personal = { personal: ['name'] } as const;
const Join = {
  kind: 'command',
  type: 'customer.join',
  ...options,
  ...personal,
  personalTo: 'id',
  schema: z.object({ id: z.string(), name: z.string() }),
} as const;
/** Its author has forgotten to mark the name. */
const Rename = {
  kind: 'command',
  type: 'customer.rename',
  ...options,
  schema: z.object({ id: z.string(), name: z.string() }),
} as const;
const Joined = {
  kind: 'event',
  type: 'customer.joined',
  ...options,
  ...personal,
  schema: z.object({ id: z.string(), name: sealed }),
} as const;

/** Everything that a decider was ever given. */
const seen: unknown[] = [];
const customer = defineActor<{ readonly name?: string }>('customer', {
  initialState: {},
  decide: on(
    handle(Join, (command, state) => {
      seen.push(command, state);
      return state.name ? reject('has joined already') : [{ definition: Joined, data: command.data }];
    }),
    handle(Rename, ({ data }) => [{ definition: Joined, data }]),
  ),
  evolve: on(apply(Joined, (_, { data }) => ({ name: data.name }))),
});

let database: TestDataSource;
let messaging: Messaging;
let personalData: PersonalData;
let runtime: ActorRuntime;
beforeAll(async () => {
  database = await openTestDataSource([
    CreateMessagingTables1760000000001,
    CreateEventStore1760000000002,
    CreatePersonalKeys1760000000004,
  ]);
  messaging = new Messaging({
    service: 'shop',
    dataSource: database.dataSource,
    commands: new MemoryCommandTransport(),
    events: new MemoryEventTransport(),
    logger: silentLogger,
    partitions: 1,
  });
  personalData = PersonalData.join(messaging, { masterKey: testPersonalDataKey });
  runtime = new ActorRuntime(messaging);
});
afterAll(async () => {
  await runtime.close();
  await database.close();
});

const execution = (type: string, id: string, name: string) => {
  const data = { id, name };
  const message = createMessage({ type, version: 1, source: 'spec', subject: id, data });
  return { id, command: { data, message }, once: { consumer: 'shop.commands', messageId: message.id } };
};
const stored = async () => {
  const tables = await Promise.all(
    ['event', 'outbox', 'inbox', 'inbox_discarded', 'personal_key'].map((table) =>
      database.dataSource.query<unknown[]>(`SELECT * FROM ${table}`),
    ),
  );
  return JSON.stringify(tables);
};

it('seals the commands of a batch before they are decided, kept or refused', async () => {
  const names = Array.from({ length: 20 }, (_, n) => `Secret-${n}-${randomUUID()}`);
  const ids = names.map(() => randomUUID());
  const executed = await Promise.all(
    names.map((name, n) => runtime.execute(customer, execution(Join.type, ids[n] as string, name))),
  );
  expect(executed.map(({ kind }) => kind)).toEqual(names.map(() => 'applied'));
  const again = await runtime.execute(customer, execution(Join.type, ids[0] as string, names[0] as string));
  expect(again).toEqual({ kind: 'rejected', reason: 'has joined already' });
  expect(JSON.stringify(seen)).toContain('sealed:v1:shop/');
  expect(JSON.stringify(seen) + (await stored())).not.toMatch(/Secret-/);
  const states = await Promise.all(ids.map((id) => runtime.read(customer, id)));
  expect(await personalData.open(states.map(({ state }) => state.name ?? ''))).toEqual(names);
});

it('refuses commands about somebody who was erased, and handles the others in the batch', async () => {
  const [erased, other] = [randomUUID(), randomUUID()];
  await inTransaction(database.dataSource, (tx) => personalData.erase(tx, [erased]));
  const executed = await Promise.all([
    runtime.execute(customer, execution(Join.type, erased, 'Secret-1')),
    runtime.execute(customer, execution(Join.type, other, 'Secret-2')),
  ]);
  expect(executed).toMatchObject([
    { kind: 'rejected', reason: `the subject ${erased} was erased` },
    { kind: 'applied' },
  ]);
  const kept = await database.dataSource.query<{ message: { data: unknown } }[]>(
    `SELECT message FROM inbox_discarded WHERE message->>'subject' = $1`,
    [erased],
  );
  expect(kept.map(({ message }) => message.data)).toEqual([{ id: erased, name: '[redacted]' }]);
  expect(await stored()).not.toMatch(/Secret-/);
});

it('lets no plain text into the log, whatever a decider returns', async () => {
  const id = randomUUID();
  const renamed = runtime.execute(customer, execution(Rename.type, id, 'Secret-3'));
  await expect(renamed).rejects.toThrow('customer.joined v1 cannot be sent: name: must be sealed');
  expect(await stored()).not.toMatch(/Secret-/);
  expect((await runtime.read(customer, id)).sequence).toBe(0);
});

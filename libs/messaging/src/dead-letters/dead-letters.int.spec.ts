import { eventually, openTestDataSource, uniqueName, type TestDataSource } from '@starter/testing';
import { z } from 'zod';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { inTransaction } from '../database/transaction.js';
import { TransientError, ValidationError } from '../errors.js';
import { admitOnce } from '../inbox/inbox.js';
import { silentLogger } from '../logger.js';
import { MemoryCommandBroker } from '../memory/memory-command-broker.js';
import { MemoryCommandTransport } from '../memory/memory-command-transport.js';
import { MemoryEventLog } from '../memory/memory-event-log.js';
import { MemoryEventTransport } from '../memory/memory-event-transport.js';
import { createMessage, type Message } from '../message.js';
import { Messaging, type MessagingOptions } from '../messaging.js';
import type { DeadLetterDelivery } from '../transport/dead-letter.js';
import { DeadLetterTable } from './dead-letter-table.js';
import { DeadLetters, type DeadLettersOptions } from './dead-letters.js';

const schema = z.object({ n: z.int(), email: z.string().optional() });
const DoIt = { kind: 'command', type: 'test.do-it', version: 1, owner: 'test', schema, personal: ['email'] } as const;
const Happened = { kind: 'event', type: 'test.happened', version: 1, owner: 'test', schema } as const;

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
  await database.dataSource.query('CREATE TABLE effect (id bigserial PRIMARY KEY, consumer text, key text, n int)');
});
afterAll(() => database.close());
const stops: (() => Promise<void>)[] = [];
afterEach(async () => {
  for (const stop of stops.splice(0)) await stop();
  await database.dataSource.query('TRUNCATE dead_letter, inbox_parked, inbox_discarded, outbox, effect');
});

/** A service whose handlers fail as long as `broken` says so, and else take effect once. */
async function serve(options: Partial<MessagingOptions> = {}) {
  const service = uniqueName('service');
  const topic = uniqueName('topic');
  const [reactor, projection] = [`${service}.reactor`, `${service}.projection`];
  const broker = new MemoryCommandBroker();
  const log = new MemoryEventLog();
  const [commands, events] = [new MemoryCommandTransport(broker), new MemoryEventTransport(log)];
  const { dataSource } = database;
  await events.declare([{ name: topic, partitions: 2 }]);
  const messaging = new Messaging({
    service,
    dataSource,
    commands,
    events,
    logger: silentLogger,
    partitions: 2,
    ...options,
  });
  const state = {
    broken: (_: Message): boolean => true,
    error: (n: number): Error => new RangeError(`broken at ${n}`),
    /** Numbers that the schema does not accept. */
    invalid: [] as number[],
    calls: 0,
  };
  const accepted = schema.refine(({ n }) => !state.invalid.includes(n), 'this number is not accepted');
  const act = async (consumer: string, message: Message) => {
    state.calls += 1;
    if (state.broken(message)) throw state.error((message.data as { n: number }).n);
    await inTransaction(dataSource, async (tx) => {
      const [first] = await admitOnce(tx, [{ consumer, messageId: message.id }]);
      if (first) await tx.query(insertEffect, [consumer, message.subject ?? '', (message.data as { n: number }).n]);
    });
  };
  const type = uniqueName('test.do-it');
  messaging.commands.handle({ ...DoIt, type, schema: accepted }, ({ message }) =>
    act(messaging.commands.queue, message),
  );
  messaging.reactTo(topic, reactor).on({ ...Happened, schema: accepted }, ({ message }) => act(reactor, message));
  messaging.inSequence(topic, projection).on({ ...Happened, schema: accepted }, async (received, tx) => {
    for (const { message, data } of received) {
      if (state.broken(message)) throw state.error(data.n);
      await tx.query(insertEffect, [projection, message.subject, data.n]);
    }
  });
  await messaging.onApplicationBootstrap();
  stops.push(async () => {
    await messaging.beforeApplicationShutdown();
    await Promise.all([commands.close(), events.close()]);
  });
  return {
    ...{ service, topic, reactor, projection, broker, log, commands, state, queue: messaging.commands.queue },
    deadLetters: messaging.deadLetters,
    command: (n: number, fields: Partial<Message> = {}) =>
      createMessage({ type, version: 1, source: 'spec', data: { n }, ...fields }),
    publish: (...messages: Message[]) => events.publish(topic, messages),
    letters: (options: Partial<DeadLettersOptions> = {}) =>
      new DeadLetters({ dataSource, service, outbox: messaging.outbox, ...options }),
    effects: async (consumer: string): Promise<number[]> =>
      (await dataSource.query<{ n: number }[]>('SELECT n FROM effect WHERE consumer = $1 ORDER BY id', [consumer])).map(
        ({ n }) => n,
      ),
  };
}
const insertEffect = { name: 'effect', text: 'INSERT INTO effect (consumer, key, n) VALUES ($1, $2, $3)' };

const event = (key: string, n: number) =>
  createMessage({ type: Happened.type, version: 1, source: 'spec', subject: key, sequence: n, data: { n } });
const ids = async (letters: DeadLetters, filter = {}) => (await letters.list(filter)).items.map(({ id }) => id);

it('takes in what failed, with its reason, and leaves nothing in the queue', async () => {
  const { command, commands, broker, queue, letters } = await serve();
  const message = command(7, { subject: 'user-1' });
  await commands.send(message);
  await eventually(async () => expect(await ids(letters())).toEqual([message.id]));
  const [shown] = await letters().show(message.id);
  expect(shown).toMatchObject({
    ...{ consumer: queue, kind: 'command', type: message.type, key: 'user-1', errorType: 'RangeError', attempts: 1 },
    ...{ reason: 'RangeError: broken at 7', origin: queue, redrives: 0, redrivable: true, message, history: [] },
  });
  await eventually(() => expect(broker.messages(`${queue}.dead-letter`)).toEqual([]));
});

it('keeps valid messages whose handlers fail on data of their own, with the stack, and redrives them', async () => {
  const { command, commands, publish, queue, reactor, projection, state, letters, effects } = await serve();
  state.error = (n) => new ValidationError(`an event made of ${n} does not fit its schema`);
  const message = command(1);
  await commands.send(message);
  await publish(event('k', 1));
  await eventually(async () => expect(await ids(letters())).toHaveLength(3));
  const shown = (await Promise.all((await ids(letters())).map((id) => letters().show(id)))).flat();
  for (const { errorType, stack } of shown) {
    expect([errorType, stack]).toEqual(['ValidationError', expect.stringContaining('dead-letters.int.spec')]);
  }
  expect(await database.dataSource.query('SELECT FROM inbox_discarded')).toEqual([]);
  state.broken = () => false;
  await letters().redrive('all');
  for (const consumer of [queue, reactor, projection]) {
    await eventually(async () => expect(await effects(consumer)).toEqual([1]));
  }
});

it('redrives one command: it takes effect once more, and is no dead letter any more', async () => {
  const { command, commands, queue, state, letters, effects } = await serve();
  const [one, other] = [command(1), command(2)];
  for (const message of [one, other]) await commands.send(message);
  await eventually(async () => expect(await ids(letters())).toHaveLength(2));
  state.broken = () => false;
  expect(await letters().redrive({ ids: [one.id] })).toEqual({ redriven: 1, skipped: 0 });
  await eventually(async () => expect(await effects(queue)).toEqual([1]));
  await eventually(async () => expect(await ids(letters(), { status: 'scheduled' })).toEqual([]));
  expect(await ids(letters())).toEqual([other.id]);
});

it('is the same dead letter, with its history, when it fails again', async () => {
  const { command, commands, state, letters } = await serve();
  const message = command(1);
  await commands.send(message);
  await eventually(async () => expect(await ids(letters())).toHaveLength(1));
  await letters().redrive('all');
  await eventually(async () =>
    expect(await letters().show(message.id)).toMatchObject([
      { status: 'open', redrives: 1, attempts: 1, history: [{ errorType: 'RangeError', attempts: 1 }] },
    ]),
  );
  await letters().redrive('all');
  await eventually(async () =>
    expect(await letters().show(message.id)).toMatchObject([{ status: 'open', redrives: 2 }]),
  );
  const [shown] = await letters().show(message.id);
  expect(shown?.history).toHaveLength(2);
  expect(state.calls).toBe(3);
});

it('redrives an event to the one consumer in which it failed', async () => {
  const { publish, reactor, projection, state, letters, effects, log, topic } = await serve();
  state.broken = ({ subject }) => subject === 'k';
  const message = event('k', 1);
  await publish(message);
  await eventually(async () => expect(await ids(letters())).toEqual([message.id, message.id]));
  expect((await letters().groups()).map(({ consumer }) => consumer).sort()).toEqual([projection, reactor].sort());
  state.broken = () => false;
  expect(await letters().redrive({ consumer: reactor })).toEqual({ redriven: 1, skipped: 0 });
  await eventually(async () => expect(await effects(reactor)).toEqual([1]));
  await eventually(async () => expect(await ids(letters(), { consumer: reactor, status: 'scheduled' })).toEqual([]));
  expect(await effects(projection)).toEqual([]);
  expect(log.read(topic)).toHaveLength(1);
});

it('opens an event again that fails after its redrive', async () => {
  const { publish, reactor, letters } = await serve();
  const message = event('k', 1);
  await publish(message);
  await eventually(async () => expect(await ids(letters(), { consumer: reactor })).toHaveLength(1));
  await letters().redrive({ consumer: reactor });
  await eventually(async () =>
    expect(await letters().show(message.id, reactor)).toMatchObject([{ status: 'open', redrives: 1, attempts: 1 }]),
  );
});

describe('an event whose next attempt is far off', () => {
  async function postponed() {
    const served = await serve({ failurePolicy: { maxRetries: 1, backoff: { baseMs: 60_000, jitter: 0 } } });
    const { state, publish, reactor, topic, log, letters, effects } = served;
    state.broken = ({ subject }) => {
      if (subject === 'late') throw new TransientError('not yet');
      return false;
    };
    const late = event('late', 1);
    await publish(late, event('other', 2));
    await eventually(async () =>
      expect(await ids(letters(), { consumer: reactor, status: 'scheduled' })).toEqual([late.id]),
    );
    // The partitions of both are done with.
    await eventually(async () => expect(await effects(reactor)).toEqual([2]));
    await eventually(() => expect(log.committed(topic, reactor).reduce((sum, position) => sum + position, 0)).toBe(2));
    const due = () =>
      database.dataSource.query(
        `UPDATE dead_letter SET due_at = now() WHERE consumer = $1 AND due_at > now() + interval '50 s'`,
        [reactor],
      );
    return { ...served, late, due };
  }

  it('waits in the database, and holds back no offset', async () => {
    const { state, reactor, due, effects, letters } = await postponed();
    state.broken = () => false;
    await due();
    await eventually(async () => expect([...(await effects(reactor))].sort()).toEqual([1, 2]));
    await eventually(async () => expect(await ids(letters(), { consumer: reactor, status: 'scheduled' })).toEqual([]));
    expect(await ids(letters(), { consumer: reactor })).toEqual([]);
  });

  it('is a dead letter when its last attempt has failed', async () => {
    const { reactor, due, late, letters } = await postponed();
    await due();
    await eventually(async () =>
      expect(await letters().show(late.id, reactor)).toMatchObject([
        { status: 'open', errorType: 'RetriesExhausted', attempts: 2, redrives: 0 },
      ]),
    );
  });
});

it('forgets at a redrive that the process died of a message, of whatever kind, and of no other', async () => {
  const { command, commands, publish, reactor, projection, queue, state, letters, effects } = await serve();
  const [order, happened] = [command(1), event('a', 1)];
  await commands.send(order);
  await publish(happened);
  await eventually(async () => expect(await ids(letters())).toHaveLength(3));
  const listed = [
    { consumer: queue, id: order.id },
    { consumer: reactor, id: happened.id },
    { consumer: projection, id: happened.id },
  ];
  const bystander = { consumer: queue, id: 'bystander' };
  for (const { consumer, id } of [...listed, bystander]) {
    await database.dataSource.query('INSERT INTO inbox_suspect (consumer, message_id, starts) VALUES ($1, $2, 5)', [
      consumer,
      id,
    ]);
  }
  state.broken = () => false;
  await letters().redrive('all');
  for (const { consumer } of listed) await eventually(async () => expect(await effects(consumer)).toEqual([1]));
  const left = 'SELECT consumer, message_id AS id FROM inbox_suspect WHERE consumer = ANY($1)';
  expect(await database.dataSource.query(left, [listed.map(({ consumer }) => consumer)])).toEqual([bystander]);
});

it('runs once when two operators redrive at the same time', async () => {
  const { command, commands, queue, state, letters, effects } = await serve();
  const messages = Array.from({ length: 50 }, (_, n) => command(n));
  for (const message of messages) await commands.send(message);
  await eventually(async () => expect(await ids(letters(), {})).toHaveLength(50));
  state.broken = () => false;
  state.calls = 0;
  const [one, other] = await Promise.all([letters().redrive('all'), letters().redrive('all')]);
  expect(one.redriven + other.redriven).toBe(50);
  await eventually(async () => expect(await effects(queue)).toHaveLength(50));
  await eventually(async () => expect(await ids(letters(), { status: 'scheduled' })).toEqual([]));
  expect(state.calls).toBe(50);
});

it('filters, counts by kind, and pages', async () => {
  const { command, commands, queue, letters } = await serve();
  for (let n = 0; n < 5; n += 1) await commands.send(command(n, { subject: `user-${n % 2}` }));
  const unknown = command(9, { version: 9 });
  await commands.send(unknown);
  await eventually(async () => expect(await ids(letters())).toHaveLength(6));
  expect(await letters().groups()).toMatchObject([
    { consumer: queue, errorType: 'RangeError', count: 5 },
    { consumer: queue, errorType: 'UnknownVersion', count: 1 },
  ]);
  expect(await ids(letters(), { errorType: 'UnknownVersion' })).toEqual([unknown.id]);
  expect(await ids(letters(), { key: 'user-1' })).toHaveLength(2);
  expect(await ids(letters(), { text: 'broken at 3' })).toHaveLength(1);
  expect(await ids(letters(), { since: new Date(Date.now() + 60_000) })).toEqual([]);
  const seen: string[] = [];
  let after: string | undefined;
  do {
    const page = await letters().list({}, { limit: 4, ...(after ? { after } : {}) });
    seen.push(...page.items.map(({ id }) => id));
    after = page.next;
  } while (after);
  expect(new Set(seen).size).toBe(6);
  expect(seen).toHaveLength(6);
  const lines: string[] = [];
  for await (const line of letters().lines()) lines.push(line);
  expect(lines.map((line) => JSON.parse(line).id)).toEqual(seen);
});

it('refuses what is old, unknown, or not said, and changes nothing', async () => {
  const { command, commands, letters } = await serve();
  const message = command(1);
  await commands.send(message);
  await eventually(async () => expect(await ids(letters())).toHaveLength(1));
  const forgetful = letters({ dedupeRetentionMs: 0 });
  await expect(forgetful.redrive('all')).rejects.toThrow(/1 of them failed longer ago .*confirm/);
  await expect(letters().redrive({ ids: ['nobody'] })).rejects.toThrow(/no open dead letter nobody/);
  await expect(letters().redrive({})).rejects.toThrow(/filter is empty/);
  expect(await letters().list()).toMatchObject({ items: [{ redrives: 0 }] });
  expect(await forgetful.redrive('all', { confirmOld: true })).toEqual({ redriven: 1, skipped: 0 });
});

it('keeps no plain personal data of what a service discards', async () => {
  const { command, commands, deadLetters } = await serve();
  const message = command(1, { data: { n: 1, email: 'ada@example.com' } });
  await commands.send(message);
  await eventually(async () => expect(await ids(deadLetters)).toHaveLength(1));
  await deadLetters.discard('all', 'a test');
  const [kept] = await database.dataSource.query<unknown[]>('SELECT message FROM inbox_discarded');
  expect(kept).toMatchObject({ message: { id: message.id, data: { n: 1, email: '[redacted]' } } });
});

it('tells whoever waits for the reply when a command waits for an operator, is redriven, and is discarded', async () => {
  const { command, commands, queue, letters, service } = await serve();
  await commands.declare({
    queues: [{ name: 'asker' }],
    bindings: [{ exchange: 'commands', queue: 'asker', routingKey: 'asker.replies' }],
  });
  const replies: Message[] = [];
  await commands.consume('asker', async ({ message }) => {
    replies.push(message);
    return { kind: 'done' };
  });
  const message = command(1, { replyTo: { address: 'asker.replies', subject: 'workflow-1' } });
  await commands.send(message);
  await eventually(async () => expect(await ids(letters())).toHaveLength(1));
  const told = () => replies.map(({ type, data }) => [type, (data as { status?: string }).status]);
  const held = (status: string) => ['command.held', status];
  await eventually(() => expect(told()).toEqual([held('dead-letter')]));
  expect(replies[0]).toMatchObject({
    subject: 'workflow-1',
    data: {
      requestId: message.id,
      service,
      reason: 'RangeError: broken at 1',
      since: expect.any(String) as string,
    },
  });
  await letters().redrive('all');
  await eventually(() => expect(told().sort()).toEqual([held('dead-letter'), held('dead-letter'), held('redriven')]));
  await expect(letters().discard('all', ' ')).rejects.toThrow(/say why/);
  expect(await letters().discard({ ids: [message.id] }, 'sent by mistake')).toEqual({ discarded: 1 });
  await eventually(() =>
    expect(replies.filter(({ type }) => type === 'command.failed')).toMatchObject([
      {
        subject: 'workflow-1',
        data: {
          requestId: message.id,
          reason: expect.stringContaining('sent by mistake') as string,
          hopeless: 'discarded',
        },
      },
    ]),
  );
  expect(await ids(letters())).toEqual([]);
  expect(
    await database.dataSource.query('SELECT consumer, reason FROM inbox_discarded WHERE message_id = $1', [message.id]),
  ).toEqual([{ consumer: queue, reason: 'sent by mistake' }]);
});

it('lets no copy of a command take effect that an operator has discarded', async () => {
  const { command, commands, queue, state, letters, effects } = await serve();
  const message = command(1);
  await commands.send(message);
  await eventually(async () => expect(await ids(letters())).toHaveLength(1));
  await letters().discard('all', 'sent by mistake');
  state.broken = () => false;
  const after = command(2);
  for (const copy of [message, after]) await commands.send(copy);
  await eventually(async () => expect(await effects(queue)).toEqual([2]));
});

describe('what was discarded', () => {
  const discarded = { status: 'discarded' } as const;

  it('is listed with its reason, counted and shown, and is no dead letter', async () => {
    const { command, commands, queue, state, letters } = await serve();
    state.invalid = [7];
    const message = command(7, { subject: 'user-1' });
    await commands.send(message);
    await eventually(async () => expect(await ids(letters(), discarded)).toEqual([message.id]));
    expect(await ids(letters())).toEqual([]);
    expect(await letters().groups(discarded)).toMatchObject([{ consumer: queue, errorType: 'Discarded', count: 1 }]);
    expect(await letters().show(message.id)).toMatchObject([
      {
        status: 'discarded',
        key: 'user-1',
        reason: expect.stringContaining('not accepted'),
        redrivable: true,
        message,
      },
    ]);
  });

  it('is redriven when its consumer has learnt to take it, and takes effect once', async () => {
    const { command, commands, publish, queue, reactor, state, letters, effects } = await serve();
    state.broken = () => false;
    state.invalid = [7];
    const message = command(7);
    await commands.send(message);
    await publish(event('k', 7), event('other', 1));
    await eventually(async () => expect(await ids(letters(), { ...discarded, consumer: reactor })).toHaveLength(1));
    await eventually(async () => expect(await ids(letters(), { ...discarded, consumer: queue })).toHaveLength(1));
    state.invalid = [];
    for (const consumer of [queue, reactor]) {
      expect(await letters().redrive({ ...discarded, consumer })).toEqual({ redriven: 1, skipped: 0 });
    }
    await eventually(async () => expect([await effects(queue), await effects(reactor)]).toEqual([[7], [1, 7]]));
    expect(await letters().redrive(discarded, { confirmLate: true })).toMatchObject({ redriven: 0 });
    await commands.send(message);
    await commands.send(command(8));
    await eventually(async () => expect(await effects(queue)).toEqual([7, 8]));
  });

  it('takes effect out of its order when it had its place in a sequence: once, and only when that is confirmed', async () => {
    const { publish, projection, state, letters, effects } = await serve();
    state.broken = () => false;
    state.invalid = [1];
    await publish(event('k', 1), event('k', 2));
    await eventually(async () => expect(await effects(projection)).toEqual([2]));
    state.invalid = [];
    const ofProjection = { ...discarded, consumer: projection };
    await expect(letters().redrive(ofProjection)).rejects.toThrow(/behind their successors.*confirm/);
    expect(await letters().redrive(ofProjection, { confirmLate: true })).toEqual({ redriven: 1, skipped: 0 });
    await eventually(async () => expect(await effects(projection)).toEqual([2, 1]));
    await publish(event('k', 3));
    await eventually(async () => expect(await effects(projection)).toEqual([2, 1, 3]));
    expect(await letters().show((await ids(letters(), ofProjection))[0] ?? '')).toEqual([]);
  });

  it('cannot be redriven when its personal data has been blanked, and says so', async () => {
    const { command, commands, state, letters } = await serve();
    state.invalid = [7];
    const message = command(7, { data: { n: 7, email: 'ada@example.com' } });
    await commands.send(message);
    await eventually(async () => expect(await ids(letters(), discarded)).toEqual([message.id]));
    await expect(letters().redrive({ ...discarded, ids: [message.id] })).rejects.toThrow(/cannot be redriven/);
    expect(await letters().redrive(discarded)).toEqual({ redriven: 0, skipped: 1 });
  });
});

describe('a poisonous event of an ordered consumer', () => {
  async function poisoned() {
    const served = await serve();
    const { publish, projection, state, letters, effects } = served;
    state.broken = ({ subject, data }) => subject === 'sick' && (data as { n: number }).n === 2;
    await publish(...[1, 2, 3].flatMap((n) => [event('sick', n), event('well', n)]));
    await eventually(async () => expect(await effects(projection)).toHaveLength(4));
    await eventually(async () =>
      expect(await letters().list({ consumer: projection })).toMatchObject({
        items: [{ kind: 'sequenced-event', key: 'sick', sequence: 2, errorType: 'RangeError', attempts: 1 }],
      }),
    );
    const sick = async () =>
      (
        await database.dataSource.query<{ n: number }[]>(
          `SELECT n FROM effect WHERE consumer = $1 AND key = 'sick' ORDER BY id`,
          [projection],
        )
      ).map(({ n }) => n);
    return { ...served, sick };
  }

  it('holds back its successors and nobody else; its redrive goes on in order', async () => {
    const { state, letters, projection, sick } = await poisoned();
    expect(await sick()).toEqual([1]);
    expect(await letters().redrive({ consumer: projection })).toEqual({ redriven: 1, skipped: 0 });
    await eventually(async () =>
      expect(await letters().list({ consumer: projection })).toMatchObject({ items: [{ redrives: 1, attempts: 1 }] }),
    );
    state.broken = () => false;
    // However old: the order is remembered for ever.
    await letters({ dedupeRetentionMs: 0 }).redrive({ consumer: projection });
    await eventually(async () => expect(await sick()).toEqual([1, 2, 3]));
    for (const status of ['open', 'scheduled'] as const) {
      expect(await ids(letters(), { consumer: projection, status })).toEqual([]);
    }
  });

  it('is passed over when it is discarded', async () => {
    const { letters, projection, sick } = await poisoned();
    expect(await letters().discard({ consumer: projection }, 'cannot be right')).toEqual({ discarded: 1 });
    await eventually(async () => expect(await sick()).toEqual([1, 3]));
    expect(
      await database.dataSource.query('SELECT reason FROM inbox_discarded WHERE consumer = $1', [projection]),
    ).toEqual([{ reason: 'cannot be right' }]);
    expect(await ids(letters(), { consumer: projection })).toEqual([]);
  });
});

it('keeps the bytes of what is no message: exported and discarded, not redriven', async () => {
  const { broker, queue, letters, log, topic, reactor } = await serve();
  broker.publish('', queue, { properties: { messageId: 'm\0', type: 't' }, content: Buffer.from([0xff, 0x00]) });
  log.append(topic, 0, { key: Buffer.from('k'), value: Buffer.from('{'), headers: { ce_id: 'x', ce_type: 'y' } });
  log.wake(topic);
  await eventually(async () => expect(await ids(letters())).toHaveLength(3));
  const { items } = await letters().list({ consumer: queue });
  const [shown] = await letters().show(items[0]?.id ?? '');
  expect(shown).toMatchObject({ errorType: 'UndecodableError', message: null, raw: '/wA=', redrivable: false });
  await expect(letters().redrive({ ids: [items[0]?.id ?? ''] })).rejects.toThrow(/cannot be redriven.*Export/);
  expect(await letters().redrive('all')).toEqual({ redriven: 0, skipped: 3 });
  expect(await letters().discard({ consumer: reactor }, 'garbage')).toEqual({ discarded: 1 });
  expect(await ids(letters())).toHaveLength(2);
});

it('stores each once, however often and in whatever order it is delivered', async () => {
  const { dataSource } = database;
  const consumer = uniqueName('consumer');
  const options = { dataSource, consumer, kind: 'command', logger: silentLogger } as const;
  // Killed after its commit and before the broker heard of it: the next process is given the same again.
  const tables = [1, 2].map(() => new DeadLetterTable(options));
  const message = createMessage({ type: 'test.do-it', version: 1, source: 'spec', data: {} });
  const letter = (redrives?: number): DeadLetterDelivery => ({
    message: redrives ? { ...message, redrives } : message,
    ...{ errorType: 'E', reason: `after ${redrives ?? 0}`, origin: 'o', attempts: 1, time: new Date().toISOString() },
    raw: { content: Buffer.from('{}'), headers: {} },
  });
  const deliver = (...letters: DeadLetterDelivery[]) =>
    Promise.all(tables.flatMap((table) => letters.map((one) => table.take(one))));
  const letters = new DeadLetters({ dataSource, service: 'spec' });
  await deliver(letter(), letter());
  expect(await letters.list({ consumer })).toMatchObject({ items: [{ id: message.id, redrives: 0 }] });
  await letters.redrive({ consumer });
  await deliver(letter());
  expect(await letters.list({ consumer })).toEqual({ items: [] });
  await deliver(letter(), letter(1));
  expect(await letters.list({ consumer })).toMatchObject({ items: [{ redrives: 1, reason: 'after 1' }] });
});

it('leaves them at the broker while the database is away', async () => {
  const log = new MemoryEventLog();
  const [topic, group] = [uniqueName('topic'), uniqueName('group')];
  const transport = new MemoryEventTransport(log);
  await transport.declare([{ name: topic, partitions: 1 }]);
  const { dataSource } = database;
  let away = true;
  const driver = {
    master: {
      query: (...args: unknown[]) => {
        if (away) return Promise.reject(Object.assign(new Error('away'), { code: 'ECONNREFUSED' }));
        return (dataSource.driver as unknown as { master: { query: (...all: unknown[]) => unknown } }).master.query(
          ...args,
        );
      },
    },
  };
  let warned = false;
  const table = new DeadLetterTable({
    ...{ consumer: group, kind: 'event' },
    dataSource: { driver } as unknown as typeof dataSource,
    logger: { ...silentLogger, warn: () => (warned = true) },
  });
  const consumer = await transport.subscribe({ topic, group, deadLetters: table.take }, async () => ({
    ...{ kind: 'dead-letter', reason: 'no', errorType: 'E' },
  }));
  await transport.publish(topic, [event('k', 1)]);
  await eventually(() => expect(warned).toBe(true));
  expect(log.committed(topic, group)).toEqual([0]);
  away = false;
  const letters = new DeadLetters({ dataSource, service: 'spec' });
  await eventually(async () => expect(await ids(letters, { consumer: group })).toHaveLength(1));
  await eventually(() => expect(log.committed(topic, group)).toEqual([1]));
  await consumer.close();
});

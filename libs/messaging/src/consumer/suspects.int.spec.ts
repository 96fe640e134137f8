import { eventually, openTestDataSource, uniqueName, type TestDataSource } from '@starter/testing';
import { setImmediate as turn } from 'node:timers/promises';
import type { Pool } from 'pg';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { inTransaction } from '../database/transaction.js';
import { acquitSuspects } from '../inbox/suspect-list.js';
import { silentLogger } from '../logger.js';
import { createMessage, type Message } from '../message.js';
import { done, type Outcome } from '../outcome.js';
import type { Delivery } from '../transport/delivery.js';
import { crashedItsProcess, Suspects } from './suspects.js';
import { Turns } from './turns.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());

let consumer: string;
beforeEach(() => (consumer = uniqueName('consumer')));

const newProcess = (dataSource = database.dataSource) =>
  new Suspects({ dataSource, consumer, logger: silentLogger, turns: new Turns(), standBackMs: 20 });
const listed = async (): Promise<string[]> => {
  const rows = await database.dataSource.query<{ message_id: string }[]>(
    'SELECT message_id FROM inbox_suspect WHERE consumer = $1 ORDER BY 1',
    [consumer],
  );
  return rows.map(({ message_id }) => message_id);
};
const command = (type = 'test.do-it') => createMessage({ type, version: 1, source: 'spec', data: {} });
const delivery = (message: Message, redelivered: boolean): Delivery => ({
  message,
  redelivered,
  attempt: 1,
  origin: 'spec',
});
const never = (): Promise<Outcome> => new Promise(() => undefined);

const pool = () => (database.dataSource.driver as unknown as { readonly master: Pool }).master;

/**
 * Processes, one after the other, that get these messages together, as from one prefetch window: each lives until one of its
 * handlers is that of a killer, or all messages have come to an outcome.
 */
async function live(messages: readonly Message[], isKiller: (message: Message) => boolean) {
  const outcomes = new Map<Message, Outcome>();
  let deaths = 0;
  for (let over = false; !over;) {
    let alive = true;
    let die = (): void => undefined;
    const dead = new Promise<void>((resolve) => (die = resolve));
    // What is dead asks the database for nothing more, as its messages that were still waiting would here.
    const ofTheLiving = new Proxy(database.dataSource, {
      get: (dataSource, name) => {
        if (!alive) throw new Error('the process is dead');
        return Reflect.get(dataSource, name) as unknown;
      },
    });
    const handle = newProcess(ofTheLiving).guard(async ({ message }) => {
      // A moment in which those that have come with it begin as well.
      await turn();
      if (isKiller(message)) {
        alive = false;
        die();
      }
      return alive ? done : never();
    });
    const left = messages.filter((message) => !outcomes.has(message));
    const all = left.map(async (message) => {
      const outcome = await handle(delivery(message, deaths > 0));
      if (alive) outcomes.set(message, outcome);
    });
    over = await Promise.race([dead.then(() => false), Promise.all(all).then(() => true)]);
    if (over) break;
    deaths += 1;
    // What it had sent before its death arrives before the next one begins.
    await eventually(() => expect(pool().idleCount).toBe(pool().totalCount));
  }
  return { deaths, outcomes };
}

it('condemns the one that kills its process, after six deaths, and none of those that were in hand with it', async () => {
  const innocent = Array.from({ length: 20 }, () => command());
  const killer = command('test.kill');
  const messages = [...innocent.slice(0, 10), killer, ...innocent.slice(10)];
  const { deaths, outcomes } = await live(messages, (message) => message === killer);
  expect(deaths).toBe(6);
  expect(outcomes.get(killer)).toMatchObject({
    kind: 'dead-letter',
    errorType: crashedItsProcess,
    reason: expect.stringContaining('died at least 5 times') as string,
  });
  expect(innocent.map((message) => outcomes.get(message))).toEqual(innocent.map(() => done));
  expect(await listed()).toEqual([killer.id]);
  // Its dead letter did not reach the broker, because the process died once more.
  const again = await newProcess().guard(never)(delivery(killer, true));
  expect(again).toMatchObject({ kind: 'dead-letter', errorType: crashedItsProcess });
  // Its handler was mended, and an operator has redriven it.
  await inTransaction(database.dataSource, (tx) => acquitSuspects(tx, [{ consumer, id: killer.id }]));
  const redriven = await newProcess().guard(async () => done)(delivery({ ...killer, redrives: 1 }, true));
  expect([redriven, await listed()]).toEqual([done, []]);
});

it('finds several that kill', async () => {
  const messages = Array.from({ length: 9 }, (_, n) => command(n % 4 === 1 ? 'test.kill' : 'test.do-it'));
  const isKiller = ({ type }: Message) => type === 'test.kill';
  const { deaths, outcomes } = await live(messages, isKiller);
  expect(messages.map((message) => outcomes.get(message)?.kind === 'dead-letter')).toEqual(messages.map(isKiller));
  expect(deaths).toBeLessThanOrEqual(10);
});

it('blames nobody for a death while it waits for its turn', async () => {
  const [first, second] = [command(), command()];
  for (const message of [first, first, second, second]) await die(message);
  const handled: string[] = [];
  const handle = newProcess().guard(({ message }) => {
    handled.push(message.id);
    return never();
  });
  void handle(delivery(first, true));
  void handle(delivery(second, true));
  await eventually(() => expect(handled).toEqual([first.id]));
  const starts = await Promise.all([first, second].map(startsOf));
  expect(starts).toEqual([3, 2]);
});

it('keeps nobody else from beginning while a suspect has its turn', async () => {
  const suspect = command();
  for (const message of [suspect, suspect]) await die(message);
  const handled: string[] = [];
  const handle = newProcess().guard(async ({ message }) => {
    handled.push(message.id);
    return message === suspect ? never() : done;
  });
  void handle(delivery(suspect, true));
  await eventually(() => expect(handled).toEqual([suspect.id]));
  const others = [command(), command()];
  expect(await Promise.all(others.map((message, n) => handle(delivery(message, n > 0))))).toEqual([done, done]);
});

it('lets those that a process has died of less often go first', async () => {
  const [often, once] = [command(), command()];
  for (const message of [often, often, often, once, once]) await die(message);
  const handled: string[] = [];
  const handle = newProcess().guard(async ({ message }) => {
    handled.push(message.id);
    return done;
  });
  await Promise.all([often, once].map((message) => handle(delivery(message, true))));
  expect(handled).toEqual([once.id, often.id]);
});

it('holds nothing against a message that has ended while the database was away', async () => {
  const message = command();
  await die(message);
  // The process lives on; only its note of that did not come through.
  let away = false;
  const dataSource = new Proxy(database.dataSource, {
    get: (target, name) => {
      if (away && name === 'driver') throw new Error('no connection');
      return Reflect.get(target, name) as unknown;
    },
  });
  const handle = newProcess(dataSource).guard(async () => {
    away = true;
    return done;
  });
  await handle(delivery(message, true));
  expect(await startsOf(message)).toBe(2);
  away = false;
  const [handled] = await Promise.all([handle(delivery(message, true)), eventually(() => expect(away).toBe(true))]);
  expect(handled).toEqual(done);
  // It has begun as if for the first time.
  expect(await startsOf(message)).toBe(1);
});

it('begins ten suspects together, so that no more have to be handled alone if they die', async () => {
  const messages = Array.from({ length: 30 }, () => command());
  const handled: string[] = [];
  const handle = newProcess().guard(({ message }) => {
    handled.push(message.id);
    return never();
  });
  for (const message of messages) void handle(delivery(message, true));
  await eventually(() => expect(handled).toHaveLength(10));
  expect((await listed()).sort()).toEqual([...handled].sort());
});

it('writes nothing for what comes for the first time, or again while it is at work', async () => {
  const handle = newProcess().guard(never);
  const [fresh, again] = [command(), command()];
  void handle(delivery(fresh, false));
  for (let n = 0; n < 10; n++) void handle(delivery(again, true));
  await eventually(async () => expect(await listed()).toEqual([again.id]));
  const [row] = await database.dataSource.query<{ starts: number }[]>(
    'SELECT starts FROM inbox_suspect WHERE message_id = $1',
    [again.id],
  );
  expect(row).toEqual({ starts: 1 });
});

it('lets go what a process that ends in order has cut off', async () => {
  const suspects = newProcess();
  const message = command();
  void suspects.guard(never)(delivery(message, true));
  await eventually(async () => expect(await listed()).toEqual([message.id]));
  await suspects.release();
  expect(await listed()).toEqual([]);
});

/** It was begun once more, by a process that is no more. */
async function die(message: Message): Promise<void> {
  const before = await startsOf(message);
  void newProcess().guard(never)(delivery(message, true));
  await eventually(async () => expect(await startsOf(message)).toBe(before + 1));
}

async function startsOf({ id }: Message): Promise<number> {
  const sum = 'SELECT coalesce(sum(starts), 0)::int AS starts FROM inbox_suspect WHERE message_id = $1';
  const [{ starts }] = await database.dataSource.query<[{ starts: number }]>(sum, [id]);
  return starts;
}

it('gives back what it cannot look at, whatever the reason', async () => {
  // As of a service that has ended while a handler was at work.
  const closed = { driver: {} } as typeof database.dataSource;
  const suspects = newProcess(closed);
  const outcome = await suspects.guard(async () => done)(delivery(command(), true));
  expect(outcome).toMatchObject({ kind: 'retry', blameless: true });
});

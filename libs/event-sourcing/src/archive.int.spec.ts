import { CreateMessagingTables1760000000001, inTransaction } from '@starter/messaging';
import {
  account,
  Deposit,
  eventually,
  execution,
  newBank,
  openTestDataSource,
  type TestDataSource,
} from '@starter/testing';
import { randomUUID } from 'node:crypto';
import { appendFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { z } from 'zod';
import { defineActor, type Actor } from './actor.js';
import { archiveStreams } from './archive.js';
import { archivedStreams } from './archived-stream.js';
import { CreateEventStore1760000000002 } from './create-event-store.migration.js';
import { eventLines } from './event-lines.js';
import { stateAt } from './history.js';
import { restoreStreams } from './restore.js';

const collect = (lines: AsyncIterable<string>): Promise<string[]> => Readable.from(lines).toArray();

let database: TestDataSource;
let folder: string;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateEventStore1760000000002]);
});
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'archive-'));
  await database.dataSource.query('TRUNCATE event, snapshot, archived_stream');
});
afterEach(() => rm(folder, { recursive: true, force: true }));
afterAll(() => database.close());

const query = <Row>(sql: string, values: unknown[] = []) => database.dataSource.query<Row[]>(sql, values);
const log = (stream?: string) => collect(eventLines(database.dataSource, { stream }));
const sequences = async (stream: string) =>
  (await log(stream)).map((line) => (JSON.parse(line) as { sequence: number }).sequence);
const file = () => join(folder, 'past.jsonl');
const linesOf = async (path = file()) => (await readFile(path, 'utf8')).split('\n').slice(0, -1);
/** Whatever has come to rest by now: a date of this millisecond would leave out what happened later in it. */
const archive = (options: { before?: Date; file?: string; actor?: string } = {}) =>
  archiveStreams({
    ...{ dataSource: database.dataSource, before: new Date(Date.now() + 1_000), file: file() },
    ...options,
  });
const restore = (path = file()) => restoreStreams({ dataSource: database.dataSource, file: path });
const archived = () => inTransaction(database.dataSource, archivedStreams);

const withSnapshots = defineActor('account', {
  ...account,
  snapshot: { version: 1, schema: z.object({ balance: z.int() }), every: 4, loadSlowerThanMs: Infinity },
});

async function deposit(times: number, id: string = randomUUID(), actor: Actor<{ balance: number }> = account) {
  const { runtime } = newBank(database.dataSource);
  for (let n = 0; n < times; n += 1) await runtime.execute(actor, execution(Deposit.type, id, 1));
  await runtime.close();
  return id;
}

/** Streams of so many events each, made by the database. */
const generate = (streams: number, events: number) =>
  query(
    `INSERT INTO event SELECT 'many-' || stream, n, gen_random_uuid(), 'account.deposited', 1, '{"amount": 1}', 'c', NULL, 'x', now() - interval '1 day'
       FROM generate_series(1, $1::int) stream, generate_series(1, $2::int) n`,
    [streams, events],
  );

describe('archiving', () => {
  it('moves all but the last event to the file, and restoring brings every digit back', async () => {
    const [a, b] = [await deposit(5), await deposit(3)];
    await query(
      `UPDATE event SET data = '{"amount": 1, "note": "ä\\n\\"\\\\ 1e400"}', causation_id = NULL WHERE sequence = 2`,
    );
    const before = await log();
    expect(await archive()).toEqual({ streams: 2, events: 6, skipped: 0 });
    expect([await sequences(`account-${a}`), await sequences(`account-${b}`)]).toEqual([[5], [3]]);
    expect([...(await linesOf()), ...(await log())].toSorted()).toEqual(before.toSorted());
    expect(await archived()).toBe(2);
    expect(await restore()).toEqual({ streams: 2, events: 6, passedOver: 0 });
    expect(await log()).toEqual(before);
    expect(await archived()).toBe(0);
    expect(await restore()).toEqual({ streams: 0, events: 0, passedOver: 6 });
  });

  it('leaves alone what is not at rest, what has one event only, and other actors', async () => {
    const [young, single] = [await deposit(3), await deposit(1)];
    await query(`UPDATE event SET recorded_at = '2020-01-01' WHERE stream_id <> $1 OR sequence < 3`, [
      `account-${young}`,
    ]);
    await generate(1, 3);
    const before = new Date('2021-01-01');
    expect(await archive({ before })).toMatchObject({ streams: 0 });
    expect(await archive({ actor: 'many' })).toMatchObject({ streams: 1, events: 2 });
    expect(await sequences(`account-${single}`)).toEqual([1]);
    expect(await sequences(`account-${young}`)).toEqual([1, 2, 3]);
    expect(await archive({ before: new Date(Date.now() + 1_000) })).toMatchObject({ streams: 1, events: 2 });
  });

  it('takes many streams, batch by batch, and counts them', async () => {
    await generate(450, 4);
    const seen: number[] = [];
    const onProgress = ({ events }: { events: number }) => seen.push(events);
    const all = await archiveStreams({ dataSource: database.dataSource, before: new Date(), file: file(), onProgress });
    expect(all).toEqual({ streams: 450, events: 1_350, skipped: 0 });
    expect(seen).toEqual([600, 1_200, 1_350]);
    expect(await restore()).toEqual({ streams: 450, events: 1_350, passedOver: 0 });
    expect(await query('SELECT count(*)::int AS n FROM event')).toEqual([{ n: 1_800 }]);
  });
});

describe('an actor whose past is archived', () => {
  it('goes on when it has a snapshot', async () => {
    const id = await deposit(6, randomUUID(), withSnapshots);
    expect(await archive()).toMatchObject({ events: 3 });
    expect(await sequences(`account-${id}`)).toEqual([4, 5, 6]);
    await deposit(3, id, withSnapshots);
    expect(await newBank(database.dataSource).runtime.read(withSnapshots, id)).toEqual({
      state: { balance: 9 },
      sequence: 9,
    });
    expect(await stateAt(database.dataSource, withSnapshots, id)).toMatchObject({ state: { balance: 9 }, sequence: 9 });
    expect(await stateAt(database.dataSource, withSnapshots, id, { version: 8 })).toMatchObject({
      state: { balance: 8 },
    });
    await expect(stateAt(database.dataSource, withSnapshots, id, { version: 7 })).rejects.toMatchObject({
      name: 'TerminalError',
      message: expect.stringContaining(`npm run events -- restore ${file()}`),
    });
  });

  it('does not decide without one, and says which command brings its past back', async () => {
    const id = await deposit(5);
    await archive();
    const { runtime } = newBank(database.dataSource);
    const command = execution(Deposit.type, id, 1);
    await expect(runtime.execute(account, command)).rejects.toMatchObject({
      name: 'TerminalError',
      message: expect.stringMatching(
        new RegExp(
          `^the events of account-${id} before sequence 5 were archived .*: npm run events -- restore ${file()}$`,
        ),
      ),
    });
    expect(await sequences(`account-${id}`)).toEqual([5]);
    await restore();
    expect(await runtime.execute(account, command)).toMatchObject({ kind: 'applied', state: { balance: 6 } });
    await runtime.close();
  });

  it('is archived again where it went on, and needs both files, in any order', async () => {
    const [id, other] = [randomUUID(), await deposit(2)];
    const kept = await log(`account-${other}`);
    const { runtime } = newBank(database.dataSource);
    for (let n = 0; n < 3; n += 1) await runtime.execute(account, execution(Deposit.type, id, 1));
    expect(await archive()).toMatchObject({ streams: 2, events: 3 });
    // A process that has the state in memory goes on.
    for (let n = 0; n < 3; n += 1) await runtime.execute(account, execution(Deposit.type, id, 1));
    await runtime.close();
    const second = join(folder, 'second.jsonl');
    expect(await archive({ file: second })).toEqual({ streams: 1, events: 3, skipped: 0 });
    expect(await restore(second)).toMatchObject({ streams: 1, events: 3 });
    await expect(newBank(database.dataSource).runtime.read(account, id)).rejects.toThrow(`restore ${file()}`);
    expect(await restore()).toMatchObject({ streams: 2, events: 3 });
    expect(await stateAt(database.dataSource, account, id)).toMatchObject({ state: { balance: 6 }, sequence: 6 });
    expect(await log(`account-${other}`)).toEqual(kept);
  });
});

describe('what comes between', () => {
  /** Holds the turn of an actor until `work` has ended. */
  const whileItsTurn = (id: string, work: () => Promise<void>) =>
    inTransaction(database.dataSource, async (tx) => {
      await tx.manager.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [`account-${id}`]);
      await work();
    });
  const archiveWaits = () =>
    eventually(async () =>
      expect(
        await query(
          `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%pg_advisory_xact_lock%'`,
        ),
      ).toHaveLength(1),
    );

  it('an append meanwhile: the stream stays as it is', async () => {
    const [id, other] = [await deposit(4), await deposit(4)];
    let result: ReturnType<typeof archive> | undefined;
    await whileItsTurn(id, async () => {
      result = archive();
      await archiveWaits();
      await query(
        `INSERT INTO event SELECT stream_id, 5, gen_random_uuid(), type, version, data, correlation_id, causation_id, command, now()
           FROM event WHERE stream_id = $1 AND sequence = 4`,
        [`account-${id}`],
      );
    });
    expect(await result).toEqual({ streams: 1, events: 3, skipped: 1 });
    expect(await sequences(`account-${id}`)).toEqual([1, 2, 3, 4, 5]);
    expect(await sequences(`account-${other}`)).toEqual([4]);
    // Its lines are in the file nevertheless; restoring passes over them.
    expect(await restore()).toEqual({ streams: 1, events: 3, passedOver: 3 });
  });

  it('its end, after the file was written: nothing is lost, and the same call goes on', async () => {
    const id = await deposit(4);
    const before = await log();
    await whileItsTurn(id, async () => {
      const ended = expect(archive()).rejects.toThrow();
      await archiveWaits();
      await query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
          WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%pg_advisory_xact_lock%'`,
      );
      await ended;
    });
    expect(await log()).toEqual(before);
    // As if the process had been killed in the middle of a line.
    expect(await linesOf()).toHaveLength(3);
    await appendFile(file(), '{"stream_id":"account-');
    expect(await archive()).toEqual({ streams: 1, events: 3, skipped: 0 });
    expect(await linesOf()).toHaveLength(6);
    expect(await restore()).toEqual({ streams: 1, events: 3, passedOver: 3 });
    expect(await log()).toEqual(before);
  });

  it('another archive or restore: refused', async () => {
    const id = await deposit(4);
    await whileItsTurn(id, async () => {
      const first = archive();
      await archiveWaits();
      await expect(archive({ file: join(folder, 'other.jsonl') })).rejects.toThrow('archived or restored already');
      await expect(restore()).rejects.toThrow('archived or restored already');
      void first.catch(() => undefined);
    });
    await eventually(async () => expect(await sequences(`account-${id}`)).toEqual([4]));
  });
});

describe('files', () => {
  it('that hold something else are not written to', async () => {
    await deposit(3);
    await writeFile(file(), 'shopping list\n');
    await expect(archive()).rejects.toThrow(
      `${file()} is there already and is no archive of events; name another file`,
    );
    expect(await readFile(file(), 'utf8')).toBe('shopping list\n');
    await writeFile(file(), '{"st');
    expect(await archive()).toMatchObject({ events: 2 });
  });

  it.each<[string, (lines: string[]) => string[], RegExp]>([
    [
      'lacks a line',
      (lines) => lines.filter((_, n) => n !== 1),
      /lacks 1 of the events of account-.* up to sequence 4; nothing was restored/,
    ],
    ['lacks its end', (lines) => [...lines.slice(0, 3), lines[3]!.slice(0, 20)], /lacks 1 of the events/],
    ['has a line that is not JSON', (lines) => lines.with(2, '{"stream_id":'), /past\.jsonl:3 is no event/],
    [
      'has a line without an id',
      (lines) => lines.with(2, lines[2]!.replace('"id":', '"no":')),
      /lines 1 to 4: null value/,
    ],
  ])('that are damaged restore nothing: %s', async (_, damage, message) => {
    const id = await deposit(5);
    await archive();
    await writeFile(file(), `${damage(await linesOf()).join('\n')}\n`);
    await expect(restore()).rejects.toThrow(message);
    expect(await sequences(`account-${id}`)).toEqual([5]);
    expect(await archived()).toBe(1);
  });

  it('of another database restore nothing', async () => {
    const id = await deposit(3);
    await archive();
    const foreign = join(folder, 'foreign.jsonl');
    await writeFile(foreign, (await linesOf()).join('\n').replaceAll(`account-${id}`, `account-${randomUUID()}`));
    expect(await restore(foreign)).toEqual({ streams: 0, events: 0, passedOver: 2 });
    await restore();
    await writeFile(foreign, (await linesOf())[0]!.replace(/"id":"[^"]+"/, `"id":"${randomUUID()}"`));
    await expect(restore(foreign)).rejects.toThrow(`the log has another event in account-${id} at sequence 1`);
  });
});

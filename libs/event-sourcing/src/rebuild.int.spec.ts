import {
  createMessage,
  CreateMessagingTables1760000000001,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  silentLogger,
  type MessageDefinition,
} from '@starter/messaging';
import { eventually, openTestDataSource, type TestDataSource } from '@starter/testing';
import { z } from 'zod';
import { apply, defineActor, handle, on, streamId } from './actor.js';
import { ActorRuntime } from './actor-runtime.js';
import { CreateEventStore1760000000002 } from './create-event-store.migration.js';
import { CorruptStreamError } from './load-actors.js';
import { consumerOf, defineProjection, project, type Projection } from './projection.js';
import { Projections } from './projections.js';
import { projectionStatus } from './projection-status.js';
import { rebuildProjection } from './rebuild.js';

const schema = z.object({ owner: z.string(), n: z.int() });
const options = { version: 1, owner: 'tally', schema } as const;
const Count = { kind: 'command', type: 'tally.count', key: 'owner', ...options } as const;
const Counted = { kind: 'event', type: 'tally.counted', ...options } as const;
const Renamed = { kind: 'event', type: 'tally.renamed', ...options } as const;

const counter = defineActor('counter', {
  initialState: {},
  decide: on(handle(Count, ({ data }) => [{ definition: data.n < 0 ? Renamed : Counted, data }])),
  evolve: on(
    apply(Counted, (state) => state),
    apply(Renamed, (state) => state),
  ),
});

/** One row for each owner, in the table of this name. */
const tallyIn = (table: string, definitions: readonly MessageDefinition[] = [Counted]): Projection =>
  defineProjection(table, {
    tables: [table],
    handlers: on(
      ...(definitions as (typeof Counted)[]).map((definition) =>
        project(definition, async (tx, events) => {
          if (table === 'tally' && events.some(({ data }) => data.n === broken))
            throw new Error('a mistake of the handler');
          const text = `INSERT INTO ${table} AS row SELECT *, 1 FROM unnest($1::text[], $2::int[])
                        ON CONFLICT (owner) DO UPDATE SET total = row.total + excluded.total, events = row.events + 1`;
          await tx.query({ name: `spec-${table}`, text }, [
            events.map(({ data }) => data.owner),
            events.map(({ data }) => data.n),
          ]);
        }),
      ),
    ),
  });
const asynchronous = tallyIn('tally');
const inline = tallyIn('inline_tally', [Counted, Renamed]);
const consumer = consumerOf('counting', asynchronous);
let broken: number | undefined;

let database: TestDataSource;
let messaging: Messaging;
let projections: Projections;
let runtime: ActorRuntime;

beforeEach(async () => {
  broken = undefined;
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateEventStore1760000000002]);
  const { dataSource } = database;
  for (const table of ['tally', 'inline_tally']) {
    await query(
      `CREATE TABLE ${table} (owner text CONSTRAINT owners_of_${table} PRIMARY KEY, total int NOT NULL, events int)`,
    );
    await query(`CREATE INDEX best_of_${table} ON ${table} (total DESC)`);
    await query(`GRANT SELECT ON ${table} TO PUBLIC`);
  }
  messaging = new Messaging({
    service: 'counting',
    dataSource,
    commands: new MemoryCommandTransport(),
    events: new MemoryEventTransport(),
    logger: silentLogger,
    partitions: 4,
  });
  projections = new Projections(messaging);
  projections.follow(asynchronous);
  runtime = new ActorRuntime(messaging);
  runtime.project(inline);
  await messaging.onApplicationBootstrap();
});
afterEach(async () => {
  await messaging.beforeApplicationShutdown();
  await runtime.close();
  await database.close();
});

const query = <Row>(sql: string, values: unknown[] = []) => database.dataSource.query<Row[]>(sql, values);
const owners = Array.from({ length: 100 }, (_, index) => `owner-${index}`);
const rebuild = (projection: Projection, more: Partial<Parameters<typeof rebuildProjection>[0]> = {}) =>
  rebuildProjection({
    dataSource: database.dataSource,
    projection,
    pageSize: 250,
    ...(projection === inline ? {} : { consumer: consumerOf('counting', projection) }),
    ...more,
  });

let counted = 0;
const count = (owner: string, n = (counted += 1)) => {
  const message = createMessage({ type: Count.type, version: 1, source: 'spec', data: { owner, n } });
  const command = { message, data: { owner, n } };
  return runtime.execute(counter, { id: owner, command, once: { consumer, messageId: message.id } });
};
const countAll = (times: number) =>
  Promise.all(Array.from({ length: times }, () => owners.map((owner) => count(owner))).flat());

const rowsOf = (table: string) => query(`SELECT * FROM ${table} ORDER BY owner COLLATE "C"`);
/** What the rows have to be, said by the log itself. */
const rowsByLog = () =>
  query(`SELECT owner, sum(n)::int AS total, count(*)::int AS events
           FROM event, jsonb_to_record(data) AS counted (owner text, n int)
          GROUP BY owner ORDER BY owner COLLATE "C"`);
const caughtUp = async () => {
  await eventually(async () => {
    const [status] = await projectionStatus(database.dataSource, [{ projection: asynchronous, consumer }]);
    expect(status).toMatchObject({ behind: 0, waiting: 0, failed: 0 });
  });
};
/** Everything about a table but its number. */
const looksOf = (table: string) =>
  query(
    `SELECT array_agg(indexdef ORDER BY indexdef) AS indexes, to_regclass($1)::text AS table, relacl::text
       FROM pg_class JOIN pg_indexes ON tablename = relname WHERE pg_class.oid = to_regclass($1) GROUP BY relacl::text`,
    [table],
  );
const schemas = () => query(`SELECT nspname FROM pg_namespace WHERE nspname LIKE 'rebuild%'`);

it.each([
  ['asynchronous', asynchronous],
  ['inline', inline],
])('makes the rows of an %s projection anew while events come and rows are read', async (_, projection) => {
  const [table = ''] = projection.tables;
  await countAll(20);
  await caughtUp();
  await query(`UPDATE ${table} SET total = -1, events = 0`);
  const looks = await looksOf(table);

  let done = false;
  const reading = (async () => {
    let reads = 0;
    for (; !done; reads += 1) {
      const [row] = await query<{ rows: number }>(`SELECT count(*)::int AS rows FROM ${table}`);
      expect(row?.rows).toBe(owners.length);
    }
    return reads;
  })();
  const writing = (async () => {
    while (!done) await countAll(1);
  })();
  const progress: number[] = [];
  const events = await rebuild(projection, { onProgress: (now) => progress.push(now.events) });
  done = true;
  await writing;
  expect(await reading).toBeGreaterThan(0);

  await caughtUp();
  expect(await rowsOf(table)).toEqual(await rowsByLog());
  expect(events).toBeGreaterThanOrEqual(2_000);
  expect(progress).toEqual([...progress].sort((one, other) => one - other));
  expect(await looksOf(table)).toEqual(looks);
  expect(await schemas()).toEqual([]);
  // It goes on as before.
  await countAll(2);
  await caughtUp();
  expect(await rowsOf(table)).toEqual(await rowsByLog());
  expect((await projectionStatus(database.dataSource, [{ projection }]))[0]?.rebuiltAt).toBeInstanceOf(Date);
});

it('leaves everything as it was when it fails, and removes what a killed one has left', async () => {
  await countAll(5);
  await caughtUp();
  await query(`UPDATE tally SET total = -1`);
  const before = await rowsOf('tally');
  broken = counted;
  await expect(rebuild(asynchronous)).rejects.toThrow('a mistake of the handler');
  expect(await rowsOf('tally')).toEqual(before);
  expect(await schemas()).toEqual([]);

  broken = undefined;
  await query('CREATE SCHEMA rebuild_tally_0123456789ab');
  await query('CREATE TABLE rebuild_tally_0123456789ab.tally AS SELECT * FROM public.tally');
  await rebuild(asynchronous);
  expect(await rowsOf('tally')).toEqual(await rowsByLog());
  expect(await schemas()).toEqual([]);
});

it('waits for no one who reads for long, and says so when it has to give up', async () => {
  await countAll(1);
  await caughtUp();
  const reader = database.dataSource.createQueryRunner();
  await reader.startTransaction();
  await reader.query('SELECT * FROM tally');
  const rebuilding = rebuild(asynchronous, { lockTimeoutMs: 20 });
  await expect(rebuilding).rejects.toThrow(/could not be replaced.*end long queries and rebuild again/);
  await reader.commitTransaction();
  await reader.release();
  await rebuild(asynchronous);
  expect(await rowsOf('tally')).toEqual(await rowsByLog());
});

it('refuses a second rebuild of the same projection', async () => {
  await countAll(5);
  await caughtUp();
  let second: Promise<unknown> | undefined;
  await rebuild(asynchronous, {
    onProgress: () => {
      second ??= expect(rebuild(asynchronous)).rejects.toThrow(/is being rebuilt already/);
    },
  });
  expect(second).toBeDefined();
  await second;
});

it('lets what had failed go on when the rebuild has it', async () => {
  broken = 1_000_000;
  await count('ann', 1);
  await count('ann', broken);
  await count('ann', 2);
  const status = async () => (await projectionStatus(database.dataSource, [{ projection: asynchronous, consumer }]))[0];
  await eventually(async () => expect(await status()).toMatchObject({ behind: 2, waiting: 1, failed: 1 }));
  broken = undefined;
  await rebuild(asynchronous);
  expect(await status()).toMatchObject({ behind: 0, waiting: 0, failed: 0 });
  await count('ann', 3);
  expect(await projections.waitFor(asynchronous, streamId(counter, 'ann'), 4, { timeoutMs: 10_000 })).toBe(true);
  expect(await rowsOf('tally')).toEqual([{ owner: 'ann', total: 1_000_006, events: 4 }]);
});

it('holds the stream of a type that it does not know, and cannot be rebuilt over it', async () => {
  await count('ann', -1);
  await count('bob', 1);
  const status = async () => (await projectionStatus(database.dataSource, [{ projection: asynchronous, consumer }]))[0];
  await eventually(async () => expect(await status()).toMatchObject({ behind: 1, failed: 1 }));
  const [parked] = await query<{ failure: string }>('SELECT failure FROM inbox_parked');
  expect(parked?.failure).toMatch(/has no handler for tally.renamed.*Deploy a consumer that knows it/);
  await expect(rebuild(asynchronous)).rejects.toThrow(
    /projection tally does not say what it does with tally.renamed \(counter-ann, sequence 1\)/,
  );
});

it('refuses a log with a gap or a row that cannot be read', async () => {
  await countAll(3);
  await query(`DELETE FROM event WHERE stream_id = 'counter-owner-7' AND sequence = 2`);
  await expect(rebuild(asynchronous)).rejects.toThrow(CorruptStreamError);
  await query(`UPDATE event SET data = '{}' WHERE stream_id = 'counter-owner-7'`);
  await query(`UPDATE event SET sequence = 2 WHERE stream_id = 'counter-owner-7' AND sequence = 3`);
  await expect(rebuild(asynchronous)).rejects.toThrow(/counter-owner-7 holds at sequence 1 .* that cannot be read/);
});

it('refuses a log of which a part is in a file', async () => {
  await count('ann', 1);
  await query(`INSERT INTO archived_stream (stream_id, up_to_sequence, file) VALUES ('counter-ann', 1, '/old.jsonl')`);
  await expect(rebuild(asynchronous)).rejects.toThrow(/events of 1 streams were archived.*restore them first/);
});

it('refuses tables that are not its own or cannot be replaced', async () => {
  await expect(rebuild(defineProjection('none', { handlers: on(project(Counted, async () => {})) }))).rejects.toThrow(
    /cannot be rebuilt: it declares no tables/,
  );
  await count('ann', 1);
  const careless = defineProjection('careless', { ...asynchronous, tables: ['inline_tally'] });
  await expect(rebuild(careless)).rejects.toThrow(/writes tally, which it does not declare/);
  await query('CREATE VIEW rich AS SELECT * FROM tally WHERE total > 100');
  await expect(rebuild(asynchronous)).rejects.toThrow(/the view rich reads tally.*take it away, rebuild/);
});

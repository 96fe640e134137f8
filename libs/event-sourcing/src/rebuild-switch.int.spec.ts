import { CreateMessagingTables1760000000001, databaseOptions, type MessageDefinition } from '@starter/messaging';
import { eventually, openTestDataSource, type TestDataSource } from '@starter/testing';
import { DataSource } from 'typeorm';
import { z } from 'zod';
import { on } from './actor.js';
import { CreateEventStore1760000000002 } from './create-event-store.migration.js';
import { defineProjection, project } from './projection.js';
import { rebuildProjection } from './rebuild.js';

const schema = z.object({ stream: z.string(), n: z.int() });
const Counted = { kind: 'event', type: 'tally.counted', version: 1, owner: 'tally', schema } as const;

/** One row for each stream; `in_order` is false once an event came twice, too early or too late. */
const tally = defineProjection('tally', {
  tables: ['tally'],
  handlers: on(
    project(Counted satisfies MessageDefinition, async (tx, events) => {
      const text = `INSERT INTO tally AS row SELECT *, sequence = 1 FROM unnest($1::text[], $2::int[], $3::int[]) AS new (stream, total, sequence)
                    ON CONFLICT (stream) DO UPDATE
                    SET total = row.total + excluded.total, last = excluded.last,
                        in_order = row.in_order AND excluded.last = row.last + 1`;
      const columns = [
        events.map(({ data }) => data.stream),
        events.map(({ data }) => data.n),
        events.map(({ sequence }) => sequence),
      ];
      await tx.query({ name: 'spec-tally', text }, columns);
    }),
  ),
});
const consumer = 'counting.tally';

let database: TestDataSource;
/** Each transaction has a connection of its own, so that what PostgreSQL counts for it is of this transaction alone. */
let rebuilding: DataSource;

beforeEach(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateEventStore1760000000002]);
  rebuilding = await new DataSource(
    databaseOptions({ url: database.url, poolSize: 4, extra: { maxUses: 1 } }),
  ).initialize();
  await query(`CREATE TABLE tally (stream text PRIMARY KEY, total int NOT NULL, last int NOT NULL, in_order boolean)`);
  // The last statement of a switch notes what the transaction has cost so far.
  await query(`
    CREATE TABLE cost (pages int, rows int);
    CREATE FUNCTION note_cost() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
      INSERT INTO cost
      SELECT sum(pg_stat_get_xact_blocks_fetched(oid)), sum(pg_stat_get_xact_tuples_returned(oid)) FROM pg_class
       WHERE relkind IN ('r', 'i') AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'pg_toast'::regnamespace);
      RETURN NULL;
    END $$;
    CREATE TRIGGER note_cost AFTER INSERT OR UPDATE ON projection_rebuild EXECUTE FUNCTION note_cost()`);
});
afterEach(async () => {
  await rebuilding.destroy();
  await database.close();
});

const query = <Row>(sql: string, values: unknown[] = []) => database.dataSource.query<Row[]>(sql, values);

/** The next `times` events of the streams `from` to `to`. */
const append = `
  INSERT INTO event SELECT 'tally-' || n, head + more, gen_random_uuid(), 'tally.counted', 1,
                           jsonb_build_object('stream', 'tally-' || n, 'n', n % 7), 'spec', NULL, 'spec', now()
    FROM generate_series($1::int, $2::int) n
   CROSS JOIN LATERAL (SELECT coalesce(max(sequence), 0) AS head FROM event WHERE stream_id = 'tally-' || n) log
   CROSS JOIN generate_series(1, $3::int) more`;

/** The consumer has handled all that is in the log, except for the streams that it is behind with. */
const follow = (behind: readonly string[]) =>
  query(
    `INSERT INTO inbox_sequence (consumer, key, sequence)
     SELECT $1, stream_id, max(sequence) - CASE WHEN stream_id = ANY ($2) THEN 2 ELSE 0 END FROM event GROUP BY stream_id`,
    [consumer, behind],
  );

const open = async (statements: readonly [string, unknown[]][]) => {
  const runner = database.dataSource.createQueryRunner();
  await runner.startTransaction();
  for (const [text, values] of statements) await runner.query(text, values);
  return {
    append: (values: unknown[]) => runner.query(append, values),
    commit: async () => {
      await runner.commitTransaction();
      await runner.release();
    },
  };
};

const someoneWaits = (locktype: string) =>
  eventually(async () => {
    const waiting = await query(
      `SELECT FROM pg_locks WHERE NOT granted AND locktype = $1
          AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
      [locktype],
    );
    expect(waiting).toHaveLength(1);
  });

const wrong = () =>
  query(`SELECT stream_id, log.*, tally.* FROM (SELECT stream_id, count(*) AS events, max(sequence) AS head, sum((data->>'n')::int) AS n
                                                  FROM event GROUP BY stream_id) log
           FULL JOIN tally ON stream = stream_id
          WHERE (total, last, in_order) IS DISTINCT FROM (n, head, true)`);
const unsettled = () =>
  query(
    `SELECT stream_id FROM (SELECT stream_id, max(sequence) AS head FROM event GROUP BY stream_id) log
       FULL JOIN inbox_sequence ON key = stream_id AND consumer = $1 WHERE sequence IS DISTINCT FROM head`,
    [consumer],
  );

/**
 * A rebuild whose switch has to wait for its lock: meanwhile the next event of twenty streams is stored, and those of ten new
 * ones, and what a transaction has appended that is older than the rebuild is committed.
 * @returns how many pages the transaction of the switch has touched, and how many rows and entries of indexes it has read
 */
async function rebuildAmidEvents(
  kind: 'asynchronous' | 'inline',
  streams: number,
): Promise<{ pages: number; rows: number }> {
  await query(append, [1, streams, 3]);
  await query('VACUUM ANALYZE event');
  if (kind === 'asynchronous') {
    await follow(['tally-5', 'tally-6']);
    await query(
      `INSERT INTO inbox_parked (consumer, key, sequence, id, type, message)
       SELECT $1, 'tally-5', n, n, 'tally.counted', '{}' FROM generate_series(2, 3) n`,
      [consumer],
    );
  }
  const late = await open([[append, [30, 34, 2]]]);
  const lock: [string, unknown[]] =
    kind === 'inline'
      ? [append, [50, 50, 1]]
      : [`SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 1))`, [consumer]];
  const holder = await open([lock]);
  const more = kind === 'inline' ? {} : { consumer };
  const events = rebuildProjection({ dataSource: rebuilding, projection: tally, lockTimeoutMs: 60_000, ...more });
  await Promise.race([someoneWaits(kind === 'inline' ? 'relation' : 'advisory'), events]);
  await holder.append([1, 20, 1]);
  await holder.append([streams + 1, streams + 10, 2]);
  await late.commit();
  await holder.commit();
  expect(await events).toBe(3 * streams + 10 + 20 + 20 + (kind === 'inline' ? 1 : 0));
  const [cost] = await query<{ pages: number; rows: number }>('SELECT * FROM cost');
  return cost ?? { pages: NaN, rows: NaN };
}

describe.each(['asynchronous', 'inline'] as const)('the switch of an %s projection', (kind) => {
  it('has every event once and in order that comes while it waits for its lock, however old the transaction', async () => {
    await rebuildAmidEvents(kind, 100);
    expect(await wrong()).toEqual([]);
    if (kind === 'inline') return;
    expect(await unsettled()).toEqual([]);
    expect(await query('SELECT FROM inbox_parked')).toEqual([]);
  });

  it('reads as much of a long log as of a short one', async () => {
    const short = await rebuildAmidEvents(kind, 200);
    await query('TRUNCATE event, inbox_sequence, inbox_parked, projection_rebuild, tally, cost');
    const long = await rebuildAmidEvents(kind, 20 * 200);
    // Indexes are a level deeper.
    expect(long.pages).toBeLessThan(1.3 * short.pages);
    expect(long.rows).toBeLessThan(1.1 * short.rows);
    expect(await wrong()).toEqual([]);
  });
});

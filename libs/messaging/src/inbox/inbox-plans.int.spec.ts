import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import type { Statement } from '../database/transaction.js';
import { record, selectOpen, takeReports } from './gaps.js';
import { readyKeys, selectKeys } from './parked.js';

interface Plan {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Index Name'?: string;
  readonly 'Shared Hit Blocks': number;
  readonly 'Shared Read Blocks': number;
  readonly Plans?: readonly Plan[];
}

// Keys are many and last for ever; of a few of them something waits: behind a failure, behind a gap, or ready.
const keys = 300_000;
let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
  for (const text of [
    `INSERT INTO inbox_sequence (consumer, key, sequence)
     SELECT 'users', 'user-' || n, 1 FROM generate_series(1, ${keys}) AS n`,
    `INSERT INTO inbox_parked (consumer, key, sequence, id, type, message, failure, parked_at)
     SELECT 'users', 'user-' || n * 1000, place, n || '-' || place, 'UserChanged', '{}',
            CASE WHEN n <= 100 AND place = 2 THEN 'broken' END, now() - interval '1 day'
       FROM generate_series(1, 200) AS n, generate_series(2, 101) AS place WHERE n <= 100 OR place > 2`,
    `INSERT INTO inbox_parked (consumer, key, sequence, id, type, message, due_at)
     VALUES ('users', 'user-7', 2, '7-2', 'UserChanged', '{}', now() - interval '1 s'),
            ('users', 'user-8', 2, '8-2', 'UserChanged', '{}', now() - interval '2 s'),
            ('users', 'user-9', 2, '9-2', 'UserChanged', '{}', now() + interval '1 hour')`,
    `INSERT INTO inbox_gap (consumer, key, missing_from, missing_to, since)
     SELECT 'users', 'user-' || n * 1000, 2, 2, now() FROM generate_series(101, 200) AS n`,
    'ANALYZE',
  ])
    await database.dataSource.query(text);
}, 60_000);
afterAll(() => database.close());

const literal = (value: string | number | null): string => (value === null ? 'NULL' : `'${value}'`);

/** As it runs through a named statement, at first with the plan for its values and later with the generic one. */
async function planOf({ text }: Statement, values: readonly (string | number | null)[], mode: string): Promise<Plan> {
  const runner = database.dataSource.createQueryRunner();
  try {
    await runner.startTransaction();
    await runner.query(`SET LOCAL plan_cache_mode = ${mode}`);
    await runner.query(`PREPARE measured AS ${text}`);
    const [row] = (await runner.query(
      `EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE measured (${values.map(literal).join()})`,
    )) as [{ 'QUERY PLAN': [{ Plan: Plan }] }];
    return row['QUERY PLAN'][0].Plan;
  } finally {
    await runner.rollbackTransaction();
    await runner.query('DEALLOCATE ALL');
    await runner.release();
  }
}

const nodes = (plan: Plan): Plan[] => [plan, ...(plan.Plans ?? []).flatMap(nodes)];

const statements: { statement: Statement; values: (string | number | null)[] }[] = [
  { statement: selectKeys, values: ['users', 100] },
  { statement: record, values: ['users', 60_000] },
  { statement: takeReports, values: ['users', 60_000, 100] },
  { statement: selectOpen, values: [null, 100] },
];

describe.each(statements)('$statement.name', ({ statement, values }) => {
  it.each(['force_custom_plan', 'force_generic_plan'])(
    'does not read the keys that wait for nothing (%s)',
    async (mode) => {
      const plan = await planOf(statement, values, mode);
      const scanned = nodes(plan).filter((node) => node['Node Type'] === 'Seq Scan');
      expect(scanned.map((node) => node['Relation Name'])).not.toContain('inbox_sequence');
      // 203 keys with 20,000 rows are parked; the table of all keys has some 3,000 pages, and its index about as many.
      expect(plan['Shared Hit Blocks'] + plan['Shared Read Blocks']).toBeLessThan(4_000);
    },
  );
});

it('finds the keys whose next message may be handled, the longest waiting first', async () => {
  expect(await readyKeys(database.dataSource, 'users', 10)).toEqual(['user-8', 'user-7']);
  expect(await readyKeys(database.dataSource, 'others', 10)).toEqual([]);
});

it('finds a dead letter of an ordered consumer by its id', async () => {
  const statement = { name: 'one', text: `SELECT * FROM dead_letters WHERE consumer = $1 AND id = $2` };
  const plan = await planOf(statement, ['users', '7-2'], 'force_generic_plan');
  expect(nodes(plan).map((node) => node['Index Name'])).toContain('inbox_parked_failed_id');
});

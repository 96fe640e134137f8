import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { fillTables, filledTables, smallTables } from './filled-tables.js';
import { functionCases } from './function.cases.js';
import { explain, type PlanCacheMode, type Value } from './query-plan.js';
import { recordStatements } from './recorded-statements.js';
import { readEntities, readMigrations } from './source-statements.js';
import type { StatementCase } from './statement-case.js';
import { cases, statements, unnamed } from './statement-cases.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource(await readMigrations(), { entities: await readEntities() });
  await fillTables(database.url);
}, 300_000);
afterAll(() => database?.close());

it('fills every table that grows', async () => {
  const tables: { name: string }[] = await database.dataSource.query(
    `SELECT relname AS name FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace`,
  );
  expect(tables.map(({ name }) => name).filter((name) => !(name in filledTables) && !smallTables.has(name))).toEqual(
    [],
  );
});

/**
 * The rule. A row that is found, made or changed costs a search in each of the table's indexes, which are three or four pages
 * deep, and the pages of the row itself.
 */
const pagesFor = (rows: number): number => 200 + 30 * rows;

const places = statements.flatMap(({ name, text }) =>
  [cases[name] ?? []].flat().flatMap((one) =>
    (['force_custom_plan', 'force_generic_plan'] as const).map((mode) => {
      return { title: [name, one.when, mode].filter(Boolean).join(', '), text, one, mode };
    }),
  ),
);

it.each(places)('$title', async ({ text, one, mode }) => {
  expect(await problemsOf(text, one, mode)).toEqual([]);
});

const functions = Object.entries(functionCases).flatMap(([name, known]) =>
  typeof known === 'string'
    ? []
    : known.map((one) => ({ title: [name, one.when].filter(Boolean).join(', '), name, one })),
);

/** They have no name, so that they are planned for their values each time. */
it.each(functions)('$title', async ({ name, one }) => {
  const { dataSource } = database;
  const top = await unnamed.get(name)!();
  const sent = await recordStatements(() => one.run(top as never, dataSource));
  expect(sent).not.toEqual([]);
  for (const { text, values } of sent) {
    const given = values.map((value) => (value instanceof Date ? value.toISOString() : (value as Value)));
    expect({ text, problems: await problemsOf(text, { ...one, values: given }, 'force_custom_plan') }).toEqual({
      text,
      problems: [],
    });
  }
});

async function problemsOf(text: string, { values, mayRead }: StatementCase, mode: PlanCacheMode): Promise<string[]> {
  const { scanned, pages, rows } = await explain(database.dataSource, text, values, mode);
  const asked = Math.max(0, ...values.map((value) => (Array.isArray(value) ? value.length : 0)));
  const most = mayRead?.pages ?? pagesFor(rows + asked);
  const ends = mayRead ? [] : scanned.filter((table) => table in filledTables);
  return [
    ...ends.map((table) => `it reads ${table} from end to end`),
    ...(pages > most ? [`it reads ${pages} pages for ${rows} rows; ${most} are enough`] : []),
  ];
}

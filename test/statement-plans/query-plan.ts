import type { DataSource } from 'typeorm';

export type PlanCacheMode = 'force_custom_plan' | 'force_generic_plan';

interface Node {
  readonly 'Node Type': string;
  readonly 'Relation Name'?: string;
  readonly 'Actual Rows': number;
  readonly 'Actual Loops': number;
  readonly 'Shared Hit Blocks': number;
  readonly 'Shared Read Blocks': number;
  readonly Plans?: readonly Node[];
}

/** What a statement has cost. */
export interface QueryPlan {
  /** Tables that were read from end to end. */
  readonly scanned: string[];
  /** Pages that were read, written or looked up. */
  readonly pages: number;
  /** Rows returned, or changed. */
  readonly rows: number;
}

/**
 * Runs a statement and takes it back. Prepared, as it runs in a service: at first with the plan for its values and later with
 * the generic one.
 */
export async function explain(
  dataSource: DataSource,
  text: string,
  values: readonly Value[],
  mode: PlanCacheMode,
): Promise<QueryPlan> {
  const runner = dataSource.createQueryRunner();
  try {
    await runner.startTransaction();
    await runner.query(`SET LOCAL plan_cache_mode TO ${mode}`);
    await runner.query(`PREPARE measured AS ${text}`);
    const parameters = values.length > 0 ? `(${values.map(literal).join()})` : '';
    const [row] = (await runner.query(`EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE measured ${parameters}`)) as [
      { 'QUERY PLAN': [{ Plan: Node }] },
    ];
    return summaryOf(row['QUERY PLAN'][0].Plan);
  } finally {
    await runner.rollbackTransaction();
    await runner.query('DEALLOCATE ALL');
    await runner.release();
  }
}

function summaryOf(root: Node): QueryPlan {
  const nodes = all(root);
  const scans = nodes.filter((node) => node['Node Type'] === 'Seq Scan').map((node) => node['Relation Name'] ?? '');
  const changes = nodes
    .filter((node) => node['Node Type'] === 'ModifyTable')
    .flatMap(({ Plans = [] }) => Plans.slice(0, 1));
  const rows = [root, ...changes].map((node) => node['Actual Rows'] * node['Actual Loops']);
  return {
    scanned: [...new Set(scans)],
    pages: root['Shared Hit Blocks'] + root['Shared Read Blocks'],
    rows: rows.reduce((sum, count) => sum + count, 0),
  };
}

const all = (node: Node): Node[] => [node, ...(node.Plans ?? []).flatMap(all)];

type Scalar = string | number | boolean | null;
/** Of a parameter. */
export type Value = Scalar | readonly Scalar[];

function literal(value: Value): string {
  if (value === null) return 'NULL';
  return quoted(typeof value === 'object' ? arrayText(value) : String(value));
}

const quoted = (text: string): string => `'${text.replaceAll("'", "''")}'`;

const arrayText = (values: readonly Scalar[]): string =>
  `{${values.map((value) => (value === null ? 'NULL' : `"${String(value).replaceAll(/["\\]/g, '\\$&')}"`)).join()}}`;

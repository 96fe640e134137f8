import { DatabaseClient, maintenance } from '@starter/messaging';
import type { DataSource } from 'typeorm';
import { eventColumns } from './event-store.js';

/** A row of the log, as JSON says it: what an event line holds. */
export interface LoggedEvent {
  readonly stream_id: string;
  readonly sequence: number;
  readonly id: string;
  readonly type: string;
  readonly version: number;
  /** As it was written; neither upcast nor decoded. */
  readonly data: unknown;
  readonly correlation_id: string;
  readonly causation_id: string | null;
  /** Type of the command that was decided. */
  readonly command: string;
  /** ISO 8601 with an offset. */
  readonly recorded_at: string;
}

/** What is left out does not matter. */
export interface EventFilter {
  readonly stream?: string | undefined;
  readonly type?: string | undefined;
  /** Recorded then or later. */
  readonly since?: Date | undefined;
  /** Recorded before. */
  readonly until?: Date | undefined;
  /** Committed before this snapshot ({@link snapshotOfLog}) was taken. */
  readonly seenBy?: string | undefined;
  /** Not committed yet when this snapshot was taken. */
  readonly unseenBy?: string | undefined;
}

/** The present, for `seenBy` and `unseenBy`: of two snapshots, each event that was committed between them is seen by the second only. */
export async function snapshotOfLog(dataSource: DataSource): Promise<string> {
  const [{ now }] = await dataSource.query<[{ now: string }]>('SELECT pg_current_snapshot()::text AS now');
  return now;
}

const logged = eventColumns.split(', ').map((column) => `event.${column}`);
// PostgreSQL writes the lines, so that no number or instant loses digits on its way.
export const eventLine = `row_to_json((SELECT line FROM (SELECT ${logged.join(', ')}) AS line))::text AS line`;

/**
 * Events as lines of JSON ({@link LoggedEvent}), stream by stream or, with `chronological`, in the order of their times.
 * Read through a cursor: memory stays flat however many there are, and all are of one moment. The connection is in use until
 * the last line is taken.
 */
export async function* eventLines(
  dataSource: DataSource,
  filter: EventFilter = {},
  { chronological = false } = {},
): AsyncGenerator<string> {
  const { where, values } = conditions(filter);
  const order = chronological ? 'recorded_at, stream_id, sequence' : 'stream_id, sequence';
  const rows = streamRows<{ line: string }>(
    dataSource,
    `SELECT ${eventLine} FROM event ${where} ORDER BY ${order}`,
    values,
  );
  for await (const row of rows) yield row.line;
}

/** Rows that are in memory at once. */
const fetchSize = 500;

/** The rows of a query through a cursor; of SQL, because connections that pipeline know no other. */
export async function* streamRows<Row>(
  dataSource: DataSource,
  text: string,
  values: readonly unknown[],
): AsyncGenerator<Row> {
  const runner = dataSource.createQueryRunner();
  const client: unknown = await runner.connect();
  try {
    // The first rows may take long, and so may whoever takes them.
    if (client instanceof DatabaseClient) client.limitStatements(maintenance.statementMs);
    await runner.startTransaction();
    await runner.query('SET LOCAL idle_in_transaction_session_timeout TO 0');
    await runner.query(`DECLARE rows NO SCROLL CURSOR FOR ${text}`, [...values]);
    for (;;) {
      const rows = (await runner.query(`FETCH ${fetchSize} FROM rows`)) as Row[];
      yield* rows;
      if (rows.length < fetchSize) return;
    }
  } finally {
    await runner.rollbackTransaction().catch(() => undefined);
    if (client instanceof DatabaseClient) client.limitStatements();
    await runner.release();
  }
}

const lookBacksMs = [60_000, 3_600_000, 86_400_000, 30 * 86_400_000];

/** The newest events, oldest first. */
export async function lastEventLines(
  dataSource: DataSource,
  limit: number,
  filter: Pick<EventFilter, 'stream' | 'type' | 'seenBy'> = {},
): Promise<string[]> {
  // A step further back at a time: the index over the times finds a span, but cannot sort.
  const spans = filter.stream === undefined ? lookBacksMs.map((span) => new Date(Date.now() - span)) : [];
  for (const since of [...spans, undefined]) {
    const { where, values } = conditions({ ...filter, since });
    const newest = `SELECT ${eventLine} FROM event ${where} ORDER BY recorded_at DESC, stream_id DESC, sequence DESC LIMIT $${values.length + 1}`;
    const rows = await dataSource.query<{ line: string }[]>(newest, [...values, limit]);
    if (rows.length === limit || since === undefined) return rows.map((row) => row.line).reverse();
  }
  return [];
}

function conditions({ stream, type, since, until, seenBy, unseenBy }: EventFilter): {
  where: string;
  values: unknown[];
} {
  const wanted: [value: unknown, term: (parameter: string) => string][] = [
    [stream, (p) => `stream_id = ${p}`],
    [type, (p) => `type = ${p}`],
    [since, (p) => `recorded_at >= ${p}`],
    [until, (p) => `recorded_at < ${p}`],
    [seenBy, (p) => `pg_visible_in_snapshot(transaction_id, ${p}::pg_snapshot)`],
    // What has begun since then, or was under way.
    [
      unseenBy,
      (p) => `(transaction_id >= pg_snapshot_xmax(${p}::pg_snapshot)
               OR transaction_id = ANY (ARRAY(SELECT pg_snapshot_xip(${p}::pg_snapshot))))`,
    ],
  ];
  const given = wanted.filter(([value]) => value !== undefined);
  const terms = given.map(([, term], index) => term(`$${index + 1}`));
  return { where: terms.length > 0 ? `WHERE ${terms.join(' AND ')}` : '', values: given.map(([value]) => value) };
}

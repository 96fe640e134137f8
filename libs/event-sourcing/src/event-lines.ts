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
  filter: Pick<EventFilter, 'stream' | 'type'> = {},
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

function conditions({ stream, type, since, until }: EventFilter): { where: string; values: unknown[] } {
  const wanted = [
    ['stream_id =', stream],
    ['type =', type],
    ['recorded_at >=', since],
    ['recorded_at <', until],
  ].filter(([, value]) => value !== undefined);
  const terms = wanted.map(([term], index) => `${String(term)} $${index + 1}`);
  return { where: terms.length > 0 ? `WHERE ${terms.join(' AND ')}` : '', values: wanted.map(([, value]) => value) };
}

import { runStatement, type Message, type Statement, type Transaction } from '@starter/messaging';
import type { DataSource } from 'typeorm';

/** Somebody else appended to one of the streams since it was loaded: load again and decide again. */
export class ConcurrencyError extends Error {
  override readonly name = 'ConcurrencyError';
  /** SQLSTATE of a serialisation failure: whoever gives up on it may try the whole message again. */
  readonly code = '40001';

  constructor(readonly streams: readonly string[]) {
    super(`one of these streams has moved on: ${streams.join(', ')}; load it and decide again`);
  }
}

export interface StoredEvent {
  readonly stream: string;
  readonly type: string;
  /** Version of the event's definition that `data` conforms to. */
  readonly version: number;
  /** Position in the stream, from 1 without gaps. */
  readonly sequence: number;
  readonly id: string;
  /** JSON value, not yet decoded. */
  readonly data: unknown;
  readonly time: Date;
}

export interface StreamPosition {
  readonly stream: string;
  /** Events up to here are known; 0 = none. */
  readonly sequence: number;
}

/** Most events in memory at once: an actor with a long past is read in pages. */
const pageSize = 5_000;

// LATERAL, so that each stream is a range of the primary key that ends at the limit; a join would sort all that is left of
// a long stream again for every page, and so would ordering by the output column, which the bare name `sequence` stands for.
const select: Statement = {
  name: 'event-load',
  text: `SELECT event.* FROM unnest($1::text[], $2::bigint[]) AS wanted (stream_id, after_sequence)
          CROSS JOIN LATERAL (
            SELECT stream_id AS stream, type, version, sequence::int AS sequence, id, data, recorded_at AS time
              FROM event WHERE event.stream_id = wanted.stream_id AND sequence > after_sequence
             ORDER BY event.sequence LIMIT $3) event
          LIMIT $3`,
};

/** The events of these streams after the given positions, page by page; per stream oldest first. Name no stream twice. */
export async function* loadEvents(
  tx: Transaction,
  positions: readonly StreamPosition[],
): AsyncGenerator<StoredEvent[]> {
  let left = positions;
  while (left.length > 0) {
    const columns = [left.map(({ stream }) => stream), left.map(({ sequence }) => sequence)];
    const page = await tx.query<StoredEvent & Record<string, unknown>>(select, [...columns, pageSize]);
    yield page;
    const last = page.at(-1);
    if (page.length < pageSize || !last) return;
    left = [last, ...left.slice(left.findIndex(({ stream }) => stream === last.stream) + 1)];
  }
}

export interface NewEvent {
  /** Its subject is the stream, its sequence continues what the caller has loaded. */
  readonly message: Message;
  /** Type of the command that was decided. */
  readonly command: string;
}

/** What an event is; what PostgreSQL adds by itself is of this database only. */
export const eventColumns = `stream_id, sequence, id, type, version, data, correlation_id, causation_id, command, recorded_at`;

// The primary key is the expected-version check: of two writers that append after the same event one inserts, the other
// waits for its commit and fails. ON CONFLICT DO NOTHING would tell all streams that have moved on, but costs every append a
// second search of the index (a quarter of the statement), and that every event is there had to be checked by its id.
// What has lost its predecessor (a database that was restored under a running service) fails as well, for want of a
// sequence. That is asked by a scalar subquery, because of EXISTS in an OR a plan that was made while the table was empty
// reads the whole table into a hash, for every batch until the next ANALYZE.
//
// One array per column and `unnest`: one plan and one round trip for any number of events. Against a list of VALUES that is
// one prepared statement instead of one per number of events, and no limit of 65 535 parameters. The data is one JSON array:
// in a jsonb[] each quotation mark had to be escaped here and unescaped there. Sorted, so that writers wait in the same order
// and never in a circle.
const insertMany: Statement = {
  name: 'event-append',
  text: `INSERT INTO event (${eventColumns})
         SELECT stream_id,
                CASE WHEN NOT continues
                       OR (SELECT true FROM event WHERE stream_id = new.stream_id AND sequence = new.sequence - 1)
                     THEN sequence END,
                id, type, version, data, correlation_id, causation_id, command, recorded_at
           FROM ROWS FROM (unnest($1::text[], $2::bigint[], $3::uuid[], $4::text[], $5::int[]), jsonb_array_elements($6),
                           unnest($7::text[], $8::text[], $9::text[], $10::timestamptz[], $11::boolean[]))
             AS new (${eventColumns}, continues)
          ORDER BY stream_id, sequence`,
};
// What a service with little to do appends. With arrays it takes the server 2.5 times as long: it finds that for arrays so
// short it pays to plan every time.
const insertOne: Statement = {
  name: 'event-append-one',
  text: `INSERT INTO event (${eventColumns})
         VALUES ($1, CASE WHEN NOT $11 OR (SELECT true FROM event WHERE stream_id = $1 AND sequence = $2 - 1)
                          THEN $2::bigint END,
                 $3, $4, $5, $6, $7, $8, $9, $10)`,
};

/**
 * Appends to any number of streams, each at the sequences of its messages.
 * @throws ConcurrencyError when one of the streams has moved on since it was loaded; the transaction must be rolled back
 */
export async function appendEvents(tx: Transaction, events: readonly NewEvent[]): Promise<void> {
  if (events.length > 0) await append(events, (insert, values) => tx.query(insert, values));
}

/**
 * Appends to one stream in one round trip, as a transaction of its own: for a log without actor, inbox and outbox.
 * @throws ConcurrencyError when the stream has moved on; nothing was appended
 */
export async function appendToStream(dataSource: DataSource, events: readonly NewEvent[]): Promise<void> {
  if (events.length > 0) await append(events, (insert, values) => runStatement(dataSource, insert, values));
}

async function append(
  events: readonly NewEvent[],
  run: (insert: Statement, values: readonly unknown[]) => Promise<unknown>,
): Promise<void> {
  const [only] = events;
  const sent = only && events.length === 1 ? run(insertOne, rowOf(only)) : run(insertMany, columnsOf(events));
  await sent.catch((error: unknown) => refuse(error, events));
}

function refuse(error: unknown, events: readonly NewEvent[]): never {
  const { constraint, column } = error as { readonly constraint?: string; readonly column?: string };
  if (constraint !== 'event_pkey' && column !== 'sequence') throw error;
  throw new ConcurrencyError([...new Set(events.map(streamOf))]);
}

/** Which of the events are the first here of a stream that has begun already. */
function continuations(events: readonly NewEvent[]): boolean[] {
  const seen = new Set<string>();
  return events.map((event) => {
    const first = !seen.has(streamOf(event));
    seen.add(streamOf(event));
    return first && event.message.sequence !== 1;
  });
}

const streamOf = ({ message }: NewEvent): string => message.subject ?? '';

function rowOf({ message, command }: NewEvent): unknown[] {
  const { subject, sequence, id, type, version, data, correlationId, causationId, time } = message;
  const json = JSON.stringify(data);
  return [subject, sequence, id, type, version, json, correlationId, causationId, command, time, sequence !== 1];
}

function columnsOf(events: readonly NewEvent[]): unknown[] {
  const messages = events.map(({ message }) => message);
  return [
    messages.map(({ subject }) => subject),
    messages.map(({ sequence }) => sequence),
    messages.map(({ id }) => id),
    messages.map(({ type }) => type),
    messages.map(({ version }) => version),
    JSON.stringify(messages.map(({ data }) => data)),
    messages.map(({ correlationId }) => correlationId),
    messages.map(({ causationId }) => causationId),
    events.map(({ command }) => command),
    messages.map(({ time }) => time),
    continuations(events),
  ];
}

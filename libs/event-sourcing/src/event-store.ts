import type { Message, Statement, Transaction } from '@starter/messaging';

/** Somebody else appended to the stream since it was loaded: load again and decide again. */
export class ConcurrencyError extends Error {
  override readonly name = 'ConcurrencyError';
  /** SQLSTATE of a serialisation failure: whoever gives up on it may try the whole message again. */
  readonly code = '40001';
}

export interface StoredEvent {
  readonly stream: string;
  readonly type: string;
  /** Version of the event's definition that `data` conforms to. */
  readonly version: number;
  /** Position in the stream, from 1 without gaps. */
  readonly sequence: number;
  /** JSON value, not yet decoded. */
  readonly data: unknown;
  readonly time: Date;
}

const select: Statement = {
  name: 'event-load',
  text: `SELECT stream_id AS stream, type, version, sequence::int AS sequence, data, recorded_at AS time
           FROM unnest($1::text[], $2::bigint[]) AS wanted (stream_id, after_sequence)
           JOIN event USING (stream_id) WHERE event.sequence > after_sequence
          ORDER BY stream_id, event.sequence`,
};

// One array per column and `unnest`: one plan and one round trip for any number of events. The primary key is the
// expected-version check: of two writers that append after the same event one inserts, the other waits for its commit and
// inserts nothing. Sorted by the caller's streams, so that writers wait in the same order and never in a circle.
const insert: Statement = {
  name: 'event-append',
  text: `INSERT INTO event
           (stream_id, sequence, id, type, version, data, correlation_id, causation_id, command, recorded_at)
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::uuid[], $4::text[], $5::int[], $6::jsonb[], $7::text[],
                              $8::text[], $9::text[], $10::timestamptz[]) ORDER BY 1, 2
         ON CONFLICT DO NOTHING
         RETURNING 1`,
};

export interface StreamPosition {
  readonly stream: string;
  /** Events up to here are known; 0 = none. */
  readonly sequence: number;
}

/** The events of these streams after the given positions, per stream oldest first. */
export async function loadEvents(
  tx: Transaction,
  positions: readonly StreamPosition[],
): Promise<Map<string, StoredEvent[]>> {
  const events = new Map<string, StoredEvent[]>(positions.map(({ stream }) => [stream, []]));
  if (positions.length === 0) return events;
  const rows = await tx.query<StoredEvent & Record<string, unknown>>(select, [
    positions.map(({ stream }) => stream),
    positions.map(({ sequence }) => sequence),
  ]);
  for (const row of rows) events.get(row.stream)?.push(row);
  return events;
}

export interface NewEvent {
  /** Its subject is the stream, its sequence continues what the caller has loaded. */
  readonly message: Message;
  /** Type of the command that was decided. */
  readonly command: string;
}

/** @throws ConcurrencyError when one of the streams has moved on; the transaction must be rolled back */
export async function appendEvents(tx: Transaction, events: readonly NewEvent[]): Promise<void> {
  if (events.length === 0) return;
  const messages = events.map(({ message }) => message);
  const inserted = await tx.query(insert, [
    messages.map(({ subject }) => subject),
    messages.map(({ sequence }) => sequence),
    messages.map(({ id }) => id),
    messages.map(({ type }) => type),
    messages.map(({ version }) => version),
    messages.map(({ data }) => JSON.stringify(data)),
    messages.map(({ correlationId }) => correlationId),
    messages.map(({ causationId }) => causationId),
    events.map(({ command }) => command),
    messages.map(({ time }) => time),
  ]);
  if (inserted.length === events.length) return;
  const streams = new Set(messages.map(({ subject }) => subject));
  throw new ConcurrencyError(`a stream has moved on: one of ${[...streams].join(', ')}; load it and decide again`);
}

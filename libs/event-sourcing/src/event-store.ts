import type { Message, Statement, Transaction } from '@starter/messaging';

/** Somebody else appended to the stream since it was loaded: load again and decide again. */
export class ConcurrencyError extends Error {
  override readonly name = 'ConcurrencyError';
  /** SQLSTATE of a serialisation failure: whoever gives up on it may try the whole message again. */
  readonly code = '40001';
}

export interface StoredEvent {
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
  text: `SELECT type, version, sequence::int AS sequence, data, recorded_at AS time
           FROM event WHERE stream_id = $1 AND sequence > $2 ORDER BY sequence`,
};

// One round trip for any number of events. The primary key is the expected-version check: of two writers that append
// after the same event one inserts, the other waits for its commit and inserts nothing.
const insert: Statement = {
  name: 'event-append',
  text: `INSERT INTO event
           (stream_id, sequence, id, type, version, data, correlation_id, causation_id, command, recorded_at)
         SELECT $1, sequence, id, type, version, data, $2, $3, $4, recorded_at
           FROM unnest($5::bigint[], $6::uuid[], $7::text[], $8::int[], $9::jsonb[], $10::timestamptz[])
             AS new (sequence, id, type, version, data, recorded_at)
         ON CONFLICT DO NOTHING
         RETURNING 1`,
};

/** Events of a stream after `afterSequence` (0 = all), oldest first. */
export function loadEvents(tx: Transaction, stream: string, afterSequence = 0): Promise<StoredEvent[]> {
  return tx.query<StoredEvent & Record<string, unknown>>(select, [stream, afterSequence]);
}

/**
 * Appends events that share one cause; their `sequence` continues what the caller has loaded.
 * @throws ConcurrencyError when the stream has moved on; the transaction must be rolled back
 */
export async function appendEvents(
  tx: Transaction,
  stream: string,
  command: string,
  events: readonly Message[],
): Promise<void> {
  const [first] = events;
  if (!first) return;
  const inserted = await tx.query(insert, [
    stream,
    first.correlationId,
    first.causationId,
    command,
    events.map((event) => event.sequence),
    events.map((event) => event.id),
    events.map((event) => event.type),
    events.map((event) => event.version),
    events.map((event) => JSON.stringify(event.data)),
    events.map((event) => event.time),
  ]);
  if (inserted.length !== events.length) {
    throw new ConcurrencyError(
      `${stream} has moved past sequence ${(first.sequence ?? 1) - 1}; load it and decide again`,
    );
  }
}

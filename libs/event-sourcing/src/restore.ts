import {
  errorText,
  exclusively,
  inTransaction,
  maintenance,
  type Statement,
  type Transaction,
} from '@starter/messaging';
import { open } from 'node:fs/promises';
import type { DataSource } from 'typeorm';
import { archiveBusy } from './archive.js';
import { eventColumns } from './event-store.js';

export interface RestoreOptions {
  readonly dataSource: DataSource;
  readonly file: string;
  /** Lines read so far. */
  readonly onProgress?: (lines: number) => void;
}

export interface Restored {
  /** Streams of which something is in the log again. */
  readonly streams: number;
  readonly events: number;
  /** Lines of events that are in the log, or that were never archived. */
  readonly passedOver: number;
}

const lines = `SELECT event.* FROM unnest($1::json[]) AS line, json_populate_record(NULL::event, line) AS event`;

const selectForeign: Statement = {
  name: 'restore-foreign',
  text: `SELECT stream_id AS stream, sequence::int AS sequence
           FROM (${lines}) line JOIN event USING (stream_id, sequence) WHERE event.id <> line.id LIMIT 1`,
};

const insert: Statement = {
  name: 'restore-insert',
  text: `INSERT INTO event (${eventColumns})
         SELECT ${eventColumns} FROM (${lines}) line
          WHERE EXISTS (SELECT FROM archived_stream
                         WHERE archived_stream.stream_id = line.stream_id AND up_to_sequence >= line.sequence)
          ORDER BY stream_id, sequence ON CONFLICT DO NOTHING RETURNING sequence`,
};

// What was archived at one time lies after what was archived the time before; it is all here again, or nothing of it.
const settle: Statement = {
  name: 'restore-settle',
  text: `WITH segment AS (
           SELECT stream_id, up_to_sequence,
                  coalesce(lag(up_to_sequence) OVER (PARTITION BY stream_id ORDER BY up_to_sequence), 0) AS after
             FROM archived_stream),
         state AS (
           SELECT segment.*, up_to_sequence - after AS length,
                  (SELECT count(*) FROM event
                    WHERE event.stream_id = segment.stream_id AND sequence > after AND sequence <= up_to_sequence) AS present
             FROM segment),
         gone AS (
           DELETE FROM archived_stream USING state
            WHERE archived_stream.stream_id = state.stream_id AND archived_stream.up_to_sequence = state.up_to_sequence
              AND present = length)
         SELECT stream_id AS stream, up_to_sequence::int AS "upTo", (length - present)::int AS missing
           FROM state WHERE present > 0`,
};

/** Lines that share a statement. */
const batchSize = 1_000;

/**
 * Puts archived events back into the log, from a file that `archiveStreams` has written: all of them or, when it fails or is
 * killed, none. What is in the log already, or was never archived here, is passed over.
 * @throws Error when the file is damaged, when it is of another database, when events are being archived
 */
export async function restoreStreams({ dataSource, file, onProgress }: RestoreOptions): Promise<Restored> {
  const restore = async (tx: Transaction): Promise<Restored> => {
    let [read, events] = [0, 0];
    for await (const batch of readBatches(file)) {
      events += await restoreBatch(tx, file, batch, read);
      read += batch.length;
      onProgress?.(read);
    }
    const segments = await tx.query<{ stream: string; upTo: number; missing: number }>(settle);
    const torn = segments.find(({ missing }) => missing > 0);
    if (torn) {
      const what = `${file} lacks ${torn.missing} of the events of ${torn.stream} up to sequence ${torn.upTo}`;
      throw new Error(`${what}; nothing was restored: take an undamaged copy of the file`);
    }
    return { streams: new Set(segments.map(({ stream }) => stream)).size, events, passedOver: read - events };
  };
  return exclusively(dataSource, { task: 'archive', refusal: archiveBusy }, () =>
    inTransaction(dataSource, restore, undefined, maintenance),
  );
}

async function restoreBatch(tx: Transaction, file: string, batch: readonly string[], before: number): Promise<number> {
  try {
    const [foreign] = await tx.query<{ stream: string; sequence: number }>(selectForeign, [batch]);
    if (foreign) {
      const where = `${foreign.stream} at sequence ${foreign.sequence}`;
      throw new Error(`the log has another event in ${where}: the file is of another database`);
    }
    return (await tx.query(insert, [batch])).length;
  } catch (error) {
    const where = `${file}, lines ${before + 1} to ${before + batch.length}`;
    throw new Error(`${where}: ${(error as Error).message}; nothing was restored`, { cause: error });
  }
}

/** @throws Error when a line is not JSON, except for the last one, which may be the half line of an archive that was killed */
async function* readBatches(file: string): AsyncGenerator<string[]> {
  const handle = await open(file);
  try {
    let [read, batch, problem]: [number, string[], string | undefined] = [0, [], undefined];
    for await (const line of handle.readLines()) {
      if (problem !== undefined) throw new Error(problem);
      read += 1;
      try {
        JSON.parse(line);
        batch.push(line);
      } catch (error) {
        problem = `${file}:${read} is no event: ${errorText(error)}; nothing was restored: take an undamaged copy of the file`;
      }
      if (batch.length < batchSize) continue;
      yield batch;
      batch = [];
    }
    if (batch.length > 0) yield batch;
  } finally {
    await handle.close();
  }
}

import { exclusively, inTransaction, maintenance, type Statement, type Transaction } from '@starter/messaging';
import type { DataSource } from 'typeorm';
import { appendToArchive, prepareArchive } from './archive-file.js';
import { takeTurns } from './command-batch.js';
import { eventLine, streamRows } from './event-lines.js';

export interface ArchiveOptions {
  readonly dataSource: DataSource;
  /** Streams whose last event was recorded earlier. */
  readonly before: Date;
  /** Absolute path; what is in an archive already stays there. */
  readonly file: string;
  /** Only streams whose ids begin with `<actor>-`. Default: all. */
  readonly actor?: string | undefined;
  readonly onProgress?: (archived: Archived) => void;
}

export interface Archived {
  readonly streams: number;
  /** Events that are in the file and no longer in the log. */
  readonly events: number;
  /** Streams that were left as they are, because something was appended to them meanwhile. */
  readonly skipped: number;
}

/** What leaves the log of a stream. */
interface Past {
  readonly stream: string;
  readonly upTo: number;
  /** Sequence of its last event. */
  readonly head: number;
}

// The head stays: it keeps its sequence taken, and the append after it finds its predecessor. What an actor's snapshot ends
// with stays as well, for without it the snapshot counts for nothing.
const selectPasts = `
  SELECT * FROM (
    SELECT stream_id AS stream, head::int AS head, least(head, snapshot.sequence)::int - 1 AS "upTo"
      FROM (SELECT stream_id, max(sequence) AS head FROM event
             WHERE $2::text IS NULL OR starts_with(stream_id, $2 || '-') GROUP BY stream_id) log
      JOIN event USING (stream_id) LEFT JOIN snapshot USING (stream_id)
     WHERE event.sequence = head AND recorded_at < $1) past
   WHERE EXISTS (SELECT FROM event WHERE stream_id = stream AND sequence <= "upTo")
   ORDER BY stream`;

const selectLines = `
  SELECT stream, ${eventLine} FROM unnest($1::text[], $2::bigint[]) AS past (stream, up_to)
    JOIN event ON stream_id = stream AND sequence <= up_to ORDER BY stream_id, sequence`;

const remove: Statement = {
  name: 'archive-remove',
  text: `WITH unmoved AS (
           SELECT stream, up_to FROM unnest($1::text[], $2::bigint[], $3::bigint[]) AS past (stream, up_to, head)
            WHERE NOT EXISTS (SELECT FROM event WHERE stream_id = stream AND sequence > head)),
         gone AS (
           DELETE FROM event USING unmoved WHERE stream_id = stream AND sequence <= up_to RETURNING stream),
         why AS (
           INSERT INTO archived_stream (stream_id, up_to_sequence, file)
           SELECT stream, up_to, $4 FROM unmoved
           ON CONFLICT (stream_id, up_to_sequence) DO UPDATE SET file = excluded.file, archived_at = now())
         SELECT stream, count(*)::int AS events FROM gone GROUP BY stream`,
};

/** Streams that share a transaction. */
const batchSize = 200;

/** For {@link alone}: the two must not meet. */
export const archiveBusy = 'events are being archived or restored already; wait for that to end, or end it';

/**
 * Moves the events of streams at rest from the log into a file of event lines (`eventLines`). Of each stream the last event
 * stays, and all from the actor's snapshot on: an actor with a snapshot goes on as ever, another one fails to load until
 * `restoreStreams` has brought its events back, with an error that says so. What is deleted is on disk and was read back
 * before. When this is killed nothing is lost: the same call again goes on where it was, in the same file.
 * @throws Error when another one is under way, when the file holds something else
 */
export async function archiveStreams(options: ArchiveOptions): Promise<Archived> {
  const { dataSource, before, file, actor = null, onProgress } = options;
  return exclusively(dataSource, { task: 'archive', refusal: archiveBusy }, async () => {
    await prepareArchive(file);
    let archived: Archived = { streams: 0, events: 0, skipped: 0 };
    for await (const pasts of batches(streamRows<Past>(dataSource, selectPasts, [before, actor]))) {
      const written = new Map<string, number>();
      await appendToArchive(file, linesOf(dataSource, pasts, written));
      const removed = await removePasts(dataSource, pasts, written, file);
      archived = {
        streams: archived.streams + removed.streams,
        events: archived.events + removed.events,
        skipped: archived.skipped + pasts.length - removed.streams,
      };
      onProgress?.(archived);
    }
    return archived;
  });
}

async function* batches(pasts: AsyncIterable<Past>): AsyncGenerator<Past[]> {
  let batch: Past[] = [];
  for await (const past of pasts) {
    batch.push(past);
    if (batch.length < batchSize) continue;
    yield batch;
    batch = [];
  }
  if (batch.length > 0) yield batch;
}

/** Counts in `written` how many there are of each stream. */
async function* linesOf(
  dataSource: DataSource,
  pasts: readonly Past[],
  written: Map<string, number>,
): AsyncGenerator<string> {
  const columns = [pasts.map(({ stream }) => stream), pasts.map(({ upTo }) => upTo)];
  for await (const row of streamRows<{ stream: string; line: string }>(dataSource, selectLines, columns)) {
    written.set(row.stream, (written.get(row.stream) ?? 0) + 1);
    yield row.line;
  }
}

/** @throws Error when the log and the file do not agree; nothing of the batch is deleted then */
async function removePasts(
  dataSource: DataSource,
  pasts: readonly Past[],
  written: ReadonlyMap<string, number>,
  file: string,
): Promise<{ streams: number; events: number }> {
  const streams = pasts.map(({ stream }) => stream);
  const columns = [streams, pasts.map(({ upTo }) => upTo), pasts.map(({ head }) => head)];
  const removeAll = async (tx: Transaction) => {
    // Whoever is loading one of these actors has its turn, and finds all of its events or only the last ones.
    await tx.query(takeTurns, [streams]);
    const rows = await tx.query<{ stream: string; events: number }>(remove, [...columns, file]);
    const wrong = rows.find(({ stream, events }) => written.get(stream) !== events);
    if (!wrong) return rows;
    const what = `${wrong.events} events of ${wrong.stream} would be deleted, ${written.get(wrong.stream) ?? 0} are in ${file}`;
    throw new Error(`${what}; somebody changes the log by hand: archive again when that has ended`);
  };
  const removed = await inTransaction(dataSource, removeAll, undefined, maintenance);
  return { streams: removed.length, events: removed.reduce((sum, { events }) => sum + events, 0) };
}

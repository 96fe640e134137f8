import type { Statement, Transaction } from '@starter/messaging';
import type { StreamPosition } from './event-store.js';

export interface MovedStream extends StreamPosition, Record<string, unknown> {
  /** The last event that is in the log; `sequence` is the last one in the new tables. */
  readonly head: number;
}

export interface MovedList {
  readonly pass: number;
  readonly streams: number;
}

/** The next ones; fewer than `limit` = there are no more. */
export type NextMoved = (tx: Transaction, limit: number) => Promise<readonly MovedStream[]>;

const takeSnapshot: Statement = { name: 'rebuild-snapshot', text: 'SELECT pg_current_snapshot()::text AS now' };

// What a snapshot did not see: whatever has begun since, and what was under way then. The upper bound leaves out events that
// came with a dump from another database, whose numbers mean nothing here. A range, though it is one transaction: after an import
// all events may have the same number, and the planner would take any other one for as large and read the whole log.
export const listMoved: Statement = {
  name: 'rebuild-list-moved',
  text: `WITH listed AS (
           INSERT INTO rebuild_moved (pass, stream_id, head)
           SELECT $1, stream_id, max(sequence)
             FROM (SELECT stream_id, sequence FROM event
                    WHERE transaction_id >= pg_snapshot_xmax($2::pg_snapshot)
                      AND transaction_id < pg_snapshot_xmax(pg_current_snapshot())
                   UNION ALL
                   SELECT late.* FROM pg_snapshot_xip($2::pg_snapshot) AS under_way CROSS JOIN LATERAL (
                     SELECT stream_id, sequence FROM event
                      WHERE transaction_id >= under_way AND transaction_id <= under_way OFFSET 0) late) moved
            GROUP BY stream_id RETURNING 1)
         SELECT pg_current_snapshot()::text AS now, (SELECT count(*) FROM listed)::int AS streams`,
};

// LATERAL and LIMIT 1, here and below: a join lets the planner read the rows of all streams.
const selectListed: Statement = {
  name: 'rebuild-listed',
  text: `SELECT stream_id AS stream, coalesce(done.sequence, 0)::int AS sequence, head::int AS head
           FROM (SELECT stream_id, head FROM rebuild_moved
                  WHERE pass = $1 AND stream_id > $2 ORDER BY stream_id LIMIT $3) listed
           LEFT JOIN LATERAL (
             SELECT sequence FROM rebuild_checkpoint WHERE stream_id = listed.stream_id LIMIT 1) done ON true
          ORDER BY stream_id`,
};

const advance: Statement = {
  name: 'rebuild-advance',
  text: `INSERT INTO rebuild_checkpoint (stream_id, sequence) SELECT * FROM unnest($1::text[], $2::bigint[])
         ON CONFLICT (stream_id) DO UPDATE SET sequence = excluded.sequence`,
};

const compareAll: Statement = {
  name: 'rebuild-compare-all',
  text: `WITH listed AS (
           INSERT INTO rebuild_moved (pass, stream_id, head)
           SELECT $2, done.stream_id, done.sequence
             FROM rebuild_checkpoint done LEFT JOIN inbox_sequence live ON live.consumer = $1 AND live.key = done.stream_id
            WHERE live.sequence IS DISTINCT FROM done.sequence RETURNING 1)
         SELECT count(*)::int AS streams FROM listed`,
};

export const compareListed: Statement = {
  name: 'rebuild-compare-listed',
  text: `WITH listed AS (
           INSERT INTO rebuild_moved (pass, stream_id, head)
           SELECT $2, suspect.stream_id, done.sequence
             FROM (SELECT DISTINCT stream_id FROM rebuild_moved WHERE pass = ANY ($3::int[])) suspect
            CROSS JOIN LATERAL (
              SELECT sequence FROM rebuild_checkpoint WHERE stream_id = suspect.stream_id LIMIT 1) done
            WHERE done.sequence IS DISTINCT FROM (
              SELECT sequence FROM inbox_sequence WHERE consumer = $1 AND key = suspect.stream_id LIMIT 1) RETURNING 1)
         SELECT count(*)::int AS streams FROM listed`,
};

/**
 * What a rebuild knows about streams: how much of each is in the new tables, which have moved since, and in which the
 * projection's consumer is elsewhere. The first comparison with the consumer reads all streams; apart from that everything
 * costs as much as has happened since the pass before, however long the log is. The tables are in the schema of the rebuild,
 * which has to come first in the search path.
 */
export class MovedStreams {
  private lastPass = 0;
  /** A snapshot; every event that it sees is in the new tables, or in the list that is being worked on. */
  private seen = '';
  /** The pass that says in which streams the consumer was elsewhere; later passes say where it may be by now. */
  private compared: number | undefined;

  /** Before the first event is read. */
  async begin(tx: Transaction): Promise<void> {
    await tx.manager.query(`
      CREATE TABLE rebuild_checkpoint (stream_id text PRIMARY KEY, sequence bigint NOT NULL);
      CREATE TABLE rebuild_moved (pass int, stream_id text, head bigint NOT NULL, PRIMARY KEY (pass, stream_id))`);
    const [row] = await tx.query<{ now: string }>(takeSnapshot);
    this.seen = row?.now ?? '';
  }

  /** A new pass: the streams to which something was appended that the one before has not seen. */
  async list(tx: Transaction): Promise<MovedList> {
    const pass = (this.lastPass += 1);
    const [row] = await tx.query<{ now: string; streams: number }>(listMoved, [pass, this.seen]);
    tx.afterCommit(() => (this.seen = row?.now ?? this.seen));
    return { pass, streams: row?.streams ?? 0 };
  }

  /** The streams of a list, page by page. */
  streamsOf({ pass }: MovedList): NextMoved {
    let last = '';
    return async (tx, limit) => {
      const streams = await tx.query<MovedStream>(selectListed, [pass, last, limit]);
      last = streams.at(-1)?.stream ?? last;
      return streams;
    };
  }

  /** So much of these streams is in the new tables. */
  async advance(tx: Transaction, streams: readonly string[], sequences: readonly unknown[]): Promise<void> {
    await tx.query(advance, [streams, sequences]);
  }

  /**
   * The streams of which the consumer has handled more or less than is in the new tables; their `head` is what those hold.
   * Call it when a pass has been worked off: where consumer and tables are at one, the consumer can only get ahead by an event
   * that a later pass lists.
   */
  async compare(tx: Transaction, consumer: string): Promise<MovedList> {
    const { compared, lastPass } = this;
    const pass = (this.lastPass += 1);
    tx.afterCommit(() => (this.compared = pass));
    const [row] =
      compared === undefined
        ? await tx.query<{ streams: number }>(compareAll, [consumer, pass])
        : await tx.query<{ streams: number }>(compareListed, [
            consumer,
            pass,
            Array.from({ length: lastPass - compared + 1 }, (_, index) => compared + index),
          ]);
    return { pass, streams: row?.streams ?? 0 };
  }
}

import type { DataSource } from 'typeorm';
import { type Message, runStatement, type Statement } from '@starter/messaging';

/** While it runs. */
export const running = `state IN ('STARTED', 'PROGRESS')`;

/** A delivery that wants to start. */
export interface Start {
  readonly message: Message;
  readonly attempt: number;
  /** Inbox of the consumer. */
  readonly consumer: string;
  readonly worker: string;
}

/** What a delivery has found; with a run it may start. */
export interface Started {
  readonly run: number | null;
  readonly savedState: unknown;
  /** As it was before. */
  readonly state: string | null;
  readonly revoked: boolean;
  /** It had come before it was revoked, and has been answered. */
  readonly answered: boolean;
  /** The inbox knows it: it has taken effect. */
  readonly handled: boolean;
}

// A failure may start again: an operator has sent its dead letter back. What has succeeded or was revoked may not.
const begin: Statement = {
  name: 'task-begin',
  text: `WITH come AS (
           SELECT * FROM ROWS FROM (unnest($1::text[], $2::int[], $3::text[], $4::text[]), json_array_elements($5))
               AS come (consumer, attempt, worker, id, message)),
         begun AS (
           INSERT INTO task AS known (id, state, message, consumer, worker, attempt, run, started_at, heartbeat_at)
           SELECT id, 'STARTED', message, consumer, worker, attempt, 1, clock_timestamp(), clock_timestamp() FROM come
            WHERE NOT EXISTS (SELECT FROM inbox WHERE inbox.consumer = come.consumer AND message_id = come.id)
            ORDER BY id
           ON CONFLICT (id) DO UPDATE
              SET state = 'STARTED', message = excluded.message, consumer = excluded.consumer, worker = excluded.worker, attempt = excluded.attempt,
                  run = known.run + 1, started_at = excluded.started_at, heartbeat_at = excluded.heartbeat_at,
                  due_at = NULL, ended_at = NULL, progress = NULL
            WHERE known.state NOT IN ('SUCCESS', 'REVOKED') AND NOT known.revoked
           RETURNING id, run, saved_state)
         SELECT begun.run, begun.saved_state AS "savedState", task.state, coalesce(task.revoked, false) AS revoked,
                task.message IS NOT NULL AS answered,
                EXISTS (SELECT FROM inbox WHERE inbox.consumer = come.consumer AND message_id = come.id) AS handled,
                come.id
           FROM come LEFT JOIN begun USING (id) LEFT JOIN task USING (id)`,
};

/** Starts what may start, all in one statement. No two of them are of the same message. */
export async function beginTasks(dataSource: DataSource, starts: readonly Start[]): Promise<Started[]> {
  const rows = await runStatement<Started & { id: string }>(dataSource, begin, [
    starts.map(({ consumer }) => consumer),
    starts.map(({ attempt }) => attempt),
    starts.map(({ worker }) => worker),
    starts.map(({ message }) => message.id),
    JSON.stringify(starts.map(({ message }) => message)),
  ]);
  const byId = new Map(rows.map((row) => [row.id, row]));
  return starts.map(({ message }) => byId.get(message.id) as Started);
}

/** `$1` id, `$2` run, `$3` consumer, `$4` result: its row and its inbox row, or nothing when it has no right to. */
export const succeed: Statement = {
  name: 'task-succeed',
  text: `WITH ended AS (
           UPDATE task SET state = 'SUCCESS', result = $4, error = NULL, ended_at = clock_timestamp()
            WHERE id = $1 AND run = $2 AND ${running} RETURNING id)
         INSERT INTO inbox (consumer, message_id) SELECT $3, id FROM ended ON CONFLICT DO NOTHING RETURNING message_id`,
};

/** `$1` id, `$2` run or NULL for one that may not start, `$3` consumer, `$4` the command. */
export const endRevoked: Statement = {
  name: 'task-end-revoked',
  text: `WITH ended AS (
           UPDATE task SET state = 'REVOKED', ended_at = coalesce(ended_at, clock_timestamp()), message = $4
            WHERE id = $1 AND revoked AND (ended_at IS NULL OR message IS NULL) AND run = coalesce($2, run) RETURNING id)
         INSERT INTO inbox (consumer, message_id) SELECT $3, id FROM ended ON CONFLICT DO NOTHING RETURNING message_id`,
};

/** `$1` id, `$2` run, `$3` state, `$4` error, `$5` milliseconds until the next attempt. */
export const fail: Statement = {
  name: 'task-fail',
  text: `UPDATE task SET state = $3, error = $4, due_at = clock_timestamp() + $5::float8 * interval '1 millisecond',
                ended_at = CASE WHEN $5::float8 IS NULL THEN clock_timestamp() END
          WHERE id = $1 AND run = $2 AND ${running} RETURNING revoked`,
};

/** Locked until the transaction ends, so that no termination comes between this look and the commit. */
export const holdsRun: Statement = {
  name: 'task-holds-run',
  text: `SELECT FROM task WHERE id = $1 AND run = $2 AND ${running} FOR NO KEY UPDATE`,
};

export const saveState: Statement = {
  name: 'task-save-state',
  text: `UPDATE task SET saved_state = new.state, heartbeat_at = clock_timestamp()
           FROM ROWS FROM (unnest($1::text[], $2::int[]), json_array_elements($3)) AS new (id, run, state)
          WHERE task.id = new.id AND task.run = new.run AND task.${running} RETURNING task.id`,
};

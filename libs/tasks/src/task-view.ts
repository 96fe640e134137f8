import type { Statement } from '@starter/messaging';
import type { Progress } from './task-context.js';
import { running } from './task-rows.js';

export const taskStates = ['PENDING', 'STARTED', 'PROGRESS', 'RETRY', 'SUCCESS', 'FAILURE', 'REVOKED'] as const;
export type TaskState = (typeof taskStates)[number];

/** How a task stands; times are instants, and null where they do not apply. */
export interface Task {
  /** Of its command. */
  readonly id: string;
  /** Of its command; null when nothing has come under this id. */
  readonly name: string | null;
  /** Data of its command as it came, without plain personal data. */
  readonly args: unknown;
  readonly state: TaskState;
  /** Process that has it, or had it last: `service@host:pid`. */
  readonly worker: string | null;
  readonly attempt: number;
  /** How often a handler has begun: more often than there were attempts when a process died with it. */
  readonly starts: number;
  readonly progress: Progress | null;
  readonly result: unknown;
  /** Of the last attempt, or why it was revoked. */
  readonly error: string | null;
  /** Somebody wants it to end. */
  readonly revoked: boolean;
  readonly receivedAt: Date | null;
  readonly startedAt: Date | null;
  readonly heartbeatAt: Date | null;
  readonly dueAt: Date | null;
  readonly endedAt: Date | null;
}

export interface ScheduledTask extends Pick<Task, 'id' | 'name' | 'args' | 'attempt'> {
  readonly waitsFor: 'retry' | 'rate limit';
  /** Of one that waits for its rate limit, the earliest time that there may be room: retries and a new limit change it. */
  readonly dueAt: Date;
  readonly error: string | null;
}

export const unknownTask = (id: string): Task => ({
  ...{ id, name: null, args: null, state: 'PENDING', worker: null, progress: null, result: null },
  ...{ attempt: 0, starts: 0 },
  ...{ error: null, revoked: false, receivedAt: null, startedAt: null, heartbeatAt: null, dueAt: null, endedAt: null },
});

const columns = `id, message ->> 'type' AS name, message -> 'data' AS args, state, worker, attempt, run AS starts, progress, result,
  error, revoked, received_at AS "receivedAt", started_at AS "startedAt", heartbeat_at AS "heartbeatAt", due_at AS "dueAt", ended_at AS "endedAt"`;

export const selectTasks: Statement = {
  name: 'task-select',
  text: `SELECT ${columns} FROM task WHERE id = ANY($1)`,
};

/**
 * A page of the tasks that are `such`, the newest first. Each state has its own, from a place in an index on: they are few, and so
 * neither a rare state nor a page that lies far back costs more.
 */
const page = (such: string): string => `
  SELECT page.* FROM unnest($3::text[]) AS wanted (state) CROSS JOIN LATERAL (
    SELECT ${columns} FROM task
     WHERE ${such} AND (received_at, id) < (
             CASE WHEN $2::text IS NULL THEN 'infinity' ELSE (SELECT received_at FROM task WHERE id = $2::text) END,
             coalesce($2::text, ''))
     ORDER BY received_at DESC, id DESC LIMIT $1) AS page
   ORDER BY page."receivedAt" DESC, page.id DESC LIMIT $1`;

/** `$1` how many, `$2` id of the last one of the page before or NULL, `$3` states. */
export const listTasks: Statement = { name: 'task-list', text: page('task.state = wanted.state') };

/** As {@link listTasks}, of the type `$4`. */
export const listTasksOfType: Statement = {
  name: 'task-list-of-type',
  text: page(`message ->> 'type' = $4 AND task.state = wanted.state`),
};

/** Those that run, the longest-running first; `$1` how many. */
export const activeTasks: Statement = {
  name: 'task-active',
  text: `SELECT ${columns} FROM task WHERE ${running} ORDER BY started_at, id LIMIT $1`,
};

export const scheduledTasks: Statement = {
  name: 'task-scheduled',
  text: `(SELECT id, message ->> 'type' AS name, message -> 'data' AS args, attempt, 'retry' AS "waitsFor", due_at AS "dueAt", error
            FROM task WHERE state = 'RETRY' ORDER BY due_at LIMIT 1000)
         UNION ALL
         (SELECT message_id, slot.type, data, 0, 'rate limit',
                 greatest(clock_timestamp(), next_at + (place - burst) * every), NULL
            FROM rate_limit_slot slot CROSS JOIN LATERAL (
                 SELECT message_id, message -> 'data' AS data, row_number() OVER (ORDER BY position) AS place
                   FROM rate_limit_waiting waiting WHERE waiting.type = slot.type AND admitted_at IS NULL
                  ORDER BY position LIMIT 1000) AS next
           ORDER BY 6 LIMIT 1000)
         ORDER BY "dueAt" LIMIT 1000`,
};

/** `$1` id, `$2` terminate, `$3` reason. What runs and is not terminated ends by itself. */
export const revokeTask: Statement = {
  name: 'task-revoke',
  text: `INSERT INTO task AS known (id, state, revoked, error, ended_at) VALUES ($1, 'REVOKED', true, $3, clock_timestamp())
         ON CONFLICT (id) DO UPDATE
            SET revoked = true, error = $3,
                state = CASE WHEN $2 OR NOT known.${running} THEN 'REVOKED' ELSE known.state END,
                ended_at = CASE WHEN $2 OR NOT known.${running} THEN clock_timestamp() END
          WHERE known.ended_at IS NULL
         RETURNING ended_at IS NOT NULL AS ended, message, consumer`,
};

import type { DataSource } from 'typeorm';
import {
  type Attempt,
  type BatchCall,
  errorText,
  type Logger,
  runStatement,
  settleInHalves,
  type Statement,
} from '@starter/messaging';
import { TaskLostError, TaskRevokedError, type Progress } from './task-context.js';
import { running } from './task-rows.js';

/** A task in the hands of this process. */
export interface RunningTask {
  readonly id: string;
  readonly run: number;
  readonly attempt: Attempt;
  /** What its handler has said since the last pulse. */
  said: { alive: boolean; progress?: Progress | undefined };
}

// Read as they were before this statement; what is revoked meanwhile is seen a second later.
const pulse: Statement = {
  name: 'task-pulse',
  text: `WITH here AS (
           SELECT id, run, alive, progress
             FROM ROWS FROM (unnest($1::text[], $2::int[], $3::bool[]), json_array_elements($4)) AS here (id, run, alive, progress)),
         told AS (
           UPDATE task SET heartbeat_at = clock_timestamp(),
                  state = CASE WHEN json_typeof(here.progress) = 'null' THEN task.state ELSE 'PROGRESS' END,
                  progress = CASE WHEN json_typeof(here.progress) = 'null' THEN task.progress ELSE here.progress END
             FROM here WHERE task.id = here.id AND task.run = here.run AND alive AND ${running})
         SELECT here.id, here.run, (task.run = here.run AND ${running}) IS TRUE AS held, coalesce(revoked, false) AS revoked,
                error FROM here LEFT JOIN task USING (id)`,
};

interface Seen {
  readonly id: string;
  readonly run: number;
  readonly held: boolean;
  readonly revoked: boolean;
  readonly error: string | null;
}

interface Said {
  readonly task: RunningTask;
  readonly said: RunningTask['said'];
}

export interface RunningTasksOptions {
  readonly dataSource: DataSource;
  readonly logger: Logger;
}

const intervalMs = 1_000;

/** Once a second one statement for all tasks of this process: tells what their handlers say, and hears which are revoked. */
export class RunningTasks {
  private readonly tasks = new Map<string, RunningTask>();
  private timer: NodeJS.Timeout | undefined;
  private beating: Promise<void> | undefined;

  constructor(private readonly options: RunningTasksOptions) {}

  add(task: RunningTask): void {
    this.tasks.set(task.id, task);
    this.timer ??= setInterval(() => void this.pulse(), intervalMs).unref();
  }

  delete(task: RunningTask): void {
    this.tasks.delete(task.id);
    if (this.tasks.size > 0) return;
    clearInterval(this.timer);
    this.timer = undefined;
  }

  /** Waits for a pulse that is under way. */
  async rest(): Promise<void> {
    await this.beating;
  }

  pulse(): Promise<void> {
    return (this.beating ??= this.beat().finally(() => (this.beating = undefined)));
  }

  private async beat(): Promise<void> {
    const tasks = [...this.tasks.values()];
    const { dataSource, logger } = this.options;
    const calls = tasks.map((task): BatchCall<Said, undefined> => {
      const { said } = task;
      task.said = { alive: false };
      const reject = (error: unknown): void => {
        // What was said in the meantime is newer.
        if (!task.said.alive) task.said = said;
        logger.warn('the progress of a task could not be written; it is tried again', {
          ...{ id: task.id, error: errorText(error) },
        });
      };
      return { item: { task, said }, resolve: () => undefined, reject };
    });
    await settleInHalves(calls, async (items) => {
      const seen = await runStatement<Seen & Record<string, unknown>>(dataSource, pulse, [
        items.map(({ task }) => task.id),
        items.map(({ task }) => task.run),
        items.map(({ said: { alive } }) => alive),
        JSON.stringify(items.map(({ said: { progress } }) => progress ?? null)),
      ]);
      for (const one of seen) this.hear(one);
      return [];
    });
  }

  private hear({ id, run, held, revoked, error }: Seen): void {
    const task = this.tasks.get(id);
    if (task?.run !== run) return;
    if (revoked) {
      const reason = new TaskRevokedError(`the task was revoked: ${error ?? 'no reason was given'}`);
      if (held) task.attempt.abort(reason);
      else task.attempt.fail(reason);
    } else if (!held) {
      task.attempt.fail(new TaskLostError('another process has taken it over'));
    }
  }
}

import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import {
  admitOnce,
  Batches,
  inTransaction,
  type Message,
  nameProblem,
  type Outbox,
  runStatement,
  type Statement,
  textProblem,
  TimeoutError,
  ValidationError,
} from '@starter/messaging';
import { revokedBecause, sendReply } from './task-run.js';
import {
  activeTasks,
  listTasks,
  listTasksOfType,
  revokeTask,
  scheduledTasks,
  selectTasks,
  taskStates,
  unknownTask,
  type ScheduledTask,
  type Task,
  type TaskState,
} from './task-view.js';

export interface TaskControlOptions {
  readonly service: string;
  readonly dataSource: DataSource;
  readonly outbox: Outbox;
}

export interface TaskFilter {
  readonly state?: TaskState | undefined;
  readonly type?: string | undefined;
  /** Default 20, at most 1 000. */
  readonly limit?: number | undefined;
  /** Id of the last task of the page before. */
  readonly after?: string | undefined;
}

export interface Revocation {
  /** A running one ends as REVOKED at once, and nothing that its handler still does is committed. Default: its signal aborts. */
  readonly terminate?: boolean | undefined;
  readonly reason: string;
}

/** It is over, so that it cannot be revoked. */
export class TaskEndedError extends Error {
  override readonly name = 'TaskEndedError';
}

const pollMs = 250;
const mostListed = 1_000;

/** How the tasks of a service stand, from its database: for the service itself and for its operators. */
export class TaskControl {
  readonly service: string;
  private readonly finding: Batches<string, Task | undefined>;

  constructor(private readonly source: TaskControlOptions) {
    this.service = source.service;
    this.finding = new Batches<string, Task | undefined>(async (ids) => {
      const rows = await runStatement<Task & Record<string, unknown>>(source.dataSource, selectTasks, [
        [...new Set(ids)],
      ]);
      const byId = new Map(rows.map((row) => [row.id, row]));
      return ids.map((id) => byId.get(id));
    });
  }

  /** Those that run, over all processes; the longest-running first, at most 1 000. */
  active(): Promise<Task[]> {
    return this.select(activeTasks, [mostListed]);
  }

  /** Those that wait for their next attempt, and the commands of whatever type that wait for their rate limit. At most 1 000. */
  scheduled(): Promise<ScheduledTask[]> {
    return runStatement<ScheduledTask & Record<string, unknown>>(this.source.dataSource, scheduledTasks);
  }

  /** PENDING when nothing is known of it: it may lie in the queue, or never come. */
  async find(id: string): Promise<Task> {
    return (await this.finding.call(id)) ?? unknownTask(id);
  }

  /**
   * Waits until the task is over.
   * @throws TimeoutError when it is not over in time, or before the signal aborts; it goes on
   */
  async result(
    id: string,
    { timeoutMs, signal }: { readonly timeoutMs: number; readonly signal?: AbortSignal },
  ): Promise<Task> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const task = await this.find(id);
      if (task.endedAt) return task;
      const leftMs = deadline - performance.now();
      if (leftMs <= 0 || signal?.aborted) {
        throw new TimeoutError(`the task ${id} is ${task.state}, and was not over within ${timeoutMs} ms; ask again`);
      }
      await sleep(Math.min(pollMs, leftMs), undefined, { signal }).catch(() => undefined);
    }
  }

  /** Newest first. */
  list({ state, type, limit = 20, after }: TaskFilter = {}): Promise<Task[]> {
    const page = [Math.min(limit, mostListed), after ?? null, state ? [state] : taskStates];
    return type === undefined ? this.select(listTasks, page) : this.select(listTasksOfType, [...page, type]);
  }

  /**
   * Stored, so that a restart forgets nothing. One that has not started never will, wherever it is by then: so an id that is
   * not known is revoked beforehand. The signal of one that runs aborts; it may still succeed, unless it is terminated. The
   * sender gets a failure that begins with `revoked`.
   * @throws TaskEndedError when it is over
   * @throws ValidationError when the id or the reason is empty or cannot be stored
   */
  async revoke(id: string, { terminate = false, reason }: Revocation): Promise<Task> {
    if (!id.trim() || !reason.trim()) throw new ValidationError('name the task, and say why it is revoked');
    const [ofId, ofReason] = [nameProblem(id), textProblem(reason)];
    if (ofId) throw new ValidationError(`the id of the task ${ofId}`);
    if (ofReason) throw new ValidationError(`the reason ${ofReason}`);
    await inTransaction(this.source.dataSource, async (tx) => {
      const [row] = await tx.query<Revoked>(revokeTask, [id, terminate, reason]);
      if (!row) {
        const advice = 'what it has done stands; if it is a dead letter, discard that';
        throw new TaskEndedError(`the task ${id} is over and cannot be revoked; ${advice}`);
      }
      if (!row.ended || !row.message || !row.consumer) return;
      const [isNew] = await admitOnce(tx, [{ consumer: row.consumer, messageId: id }]);
      if (isNew) await sendReply(this.source, tx, row.message, revokedBecause(reason));
    });
    return this.find(id);
  }

  private select(statement: Statement, values: readonly unknown[]): Promise<Task[]> {
    return runStatement<Task & Record<string, unknown>>(this.source.dataSource, statement, values);
  }
}

interface Revoked extends Record<string, unknown> {
  readonly ended: boolean;
  readonly message: Message | null;
  /** Its queue. */
  readonly consumer: string | null;
}

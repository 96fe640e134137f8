import type { DataSource } from 'typeorm';
import {
  type Answer,
  type Attempt,
  type Batches,
  bounds,
  type Discarded,
  errorText,
  inTransaction,
  type Message,
  type Outbox,
  type Received,
  recordDiscarded,
  replyEntry,
  storableValue,
  type Transaction,
} from '@starter/messaging';
import type { RunningTask } from './running-tasks.js';
import {
  progressOf,
  stateText,
  TaskLostError,
  TaskResultError,
  TaskRetryError,
  type TaskContext,
} from './task-context.js';
import { endRevoked, fail, holdsRun, saveState, succeed } from './task-rows.js';

export interface TaskEnvironment {
  readonly service: string;
  readonly dataSource: DataSource;
  readonly outbox: Outbox;
  /** False when the attempt does not count any more. */
  readonly saving: Batches<SavedState, boolean>;
}

export interface SavedState {
  readonly id: string;
  readonly run: number;
  readonly text: string;
}

/** One run of a task, from its start to its end. */
export class TaskRun<Data> implements RunningTask {
  said: RunningTask['said'] = { alive: false };
  /** `complete` has ended it. */
  ended = false;

  constructor(
    private readonly environment: TaskEnvironment,
    /** Of the inbox. */
    private readonly consumer: string,
    private readonly received: Received<Data>,
    readonly run: number,
    private readonly savedState: unknown,
    readonly attempt: Attempt,
  ) {}

  get id(): string {
    return this.received.message.id;
  }

  context(): TaskContext<Data> {
    return {
      ...this.received,
      signal: this.attempt.signal,
      fence: this.attempt,
      savedState: this.savedState,
      progress: (current, total, detail) => (this.said = { alive: true, progress: progressOf(current, total, detail) }),
      heartbeat: () => (this.said = { ...this.said, alive: true }),
      saveState: (state, tx) => this.saveState(stateText(state), tx),
      retry: (afterMs, reason = 'the handler has asked for another attempt') => {
        throw new TaskRetryError(afterMs, reason);
      },
      inTransaction: (work) => this.inTransaction(work),
      complete: (work) => this.complete(work),
    };
  }

  /** @throws TaskLostError */
  async complete<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    const { consumer } = this;
    const { dataSource } = this.environment;
    const result = await inTransaction(
      dataSource,
      async (tx) => {
        const result = storableResult(await work(tx));
        const ended = await tx.query(succeed, [this.id, this.run, consumer, JSON.stringify(result ?? null)]);
        if (ended.length === 0) throw this.lost();
        await sendReply(this.environment, tx, this.received.message, { result });
        return result;
      },
      this.attempt,
    );
    this.ended = true;
    return result;
  }

  /** Of one that no other attempt can mend; `discarded` is what may be kept of its command. The sender hears of it, once. */
  endFailed(discarded: Discarded): Promise<void> {
    const { reason } = discarded;
    const { consumer } = this;
    const { dataSource } = this.environment;
    return inTransaction(dataSource, async (tx) => {
      if ((await tx.query(fail, [this.id, this.run, 'FAILURE', reason, null])).length === 0) throw this.lost();
      const isNew = (await recordDiscarded(tx, consumer, 'command', [discarded])) > 0;
      if (isNew) await sendReply(this.environment, tx, this.received.message, { failure: reason });
    });
  }

  /** The sender hears of it, once. */
  endRevoked(reason: string): Promise<void> {
    return endAsRevoked(this.environment, this.consumer, this.received.message, this.run, reason);
  }

  private inTransaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T> {
    return inTransaction(
      this.environment.dataSource,
      async (tx) => {
        const result = await work(tx);
        if ((await tx.query(holdsRun, [this.id, this.run])).length === 0) throw this.lost();
        return result;
      },
      this.attempt,
    );
  }

  private async saveState(text: string, tx?: Transaction): Promise<void> {
    const { id, run } = this;
    const saved = tx
      ? (await tx.query(saveState, [[id], [run], `[${text}]`])).length > 0
      : await this.environment.saving.call({ id, run, text });
    if (!saved) throw this.lost();
  }

  private lost(): Error {
    return new TaskLostError(`the task ${this.id} was terminated, or another process has taken it over; end it now`);
  }
}

function storableResult<T>(result: T): T {
  try {
    return storableValue({ result }, 'the task', bounds.replyDepth).result;
  } catch (error) {
    throw new TaskResultError(`${errorText(error)}; return less, or a reference to it`, { cause: error });
  }
}

type ReplyEnvironment = Pick<TaskEnvironment, 'service' | 'outbox'>;

export async function sendReply(
  { service, outbox }: ReplyEnvironment,
  tx: Transaction,
  request: Message,
  answer: Answer,
): Promise<void> {
  const reply = replyEntry(request, answer, service);
  if (reply) await outbox.add(tx, [reply]);
}

/** What the sender of a revoked task is told. */
export const revokedBecause = (reason: string): Answer => ({ failure: `revoked: ${reason}`, revoked: true });

/** @param run null when it may not start */
export function endAsRevoked(
  environment: TaskEnvironment,
  consumer: string,
  message: Message,
  run: number | null,
  reason: string,
): Promise<void> {
  return inTransaction(environment.dataSource, async (tx) => {
    const values = [message.id, run, consumer, JSON.stringify(message)];
    if ((await tx.query(endRevoked, values)).length === 0) return;
    await sendReply(environment, tx, message, revokedBecause(reason));
  });
}

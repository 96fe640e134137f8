import {
  type CommandHandlerOptions,
  type Fence,
  findUnstorable,
  type PayloadOf,
  type ReceivedMessage,
  storableValue,
  TerminalError,
  type TimeLimit,
  type Transaction,
} from '@starter/messaging';

/** What a handler knows of its task, and what it can tell of it: `TaskContext<typeof ExportUsers>`, or `TaskContext<Data>`. */
export type TaskContext<Of = unknown> = ContextOfTask<PayloadOf<Of>>;

export interface ContextOfTask<Data> extends Required<ReceivedMessage<Data>> {
  /** Aborts at the soft time limit, when the task is revoked, or when the service stops; its reason says which. */
  readonly signal: AbortSignal;
  /** For `runtime.execute`: nothing is committed after the hard time limit, or once a termination was noticed. */
  readonly fence: Fence;
  /** What an earlier attempt has saved last; null when none has. */
  readonly savedState: unknown;
  /** How far it is, 0 to `total`. Written once a second with those of all other tasks; the last one counts. */
  progress(current: number, total: number, detail?: unknown): void;
  /** Says that it is alive, where there is no progress to tell. */
  heartbeat(): void;
  /**
   * Keeps a JSON value of at most 1 MiB for the next attempt; with `tx` if and only if that commits.
   * @throws TaskLostError when this attempt does not count any more
   */
  saveState(state: unknown, tx?: Transaction): Promise<void>;
  /** Ends this attempt; the next one comes after so many milliseconds and counts, as after a failure. */
  retry(afterMs: number, reason?: string): never;
  /**
   * A transaction that is rolled back when the task was terminated, taken over by another process or is out of time.
   * @throws TaskLostError
   */
  inTransaction<T>(work: (tx: Transaction) => Promise<T>): Promise<T>;
  /**
   * Ends the task in one transaction with its last effects, which so take place exactly once. `work` returns the result. A
   * handler that simply returns a result ends the same way, without effects of its own.
   * @throws TaskLostError
   */
  complete<T>(work: (tx: Transaction) => Promise<T>): Promise<T>;
}

/** Returns the result, a JSON value; a throw is mapped by the failure policy. */
export type TaskHandler<Data> = (context: TaskContext<Data>) => Promise<unknown>;

/** Defaults: 3 retries after 60, 120 and 240 s; a hard limit of 30 minutes, a soft one of 25. */
export interface TaskOptions extends Omit<CommandHandlerOptions, 'timeLimit'> {
  readonly timeLimit?: TimeLimit;
}

/** This attempt may not write any more: the task was terminated, or another process has taken it over. */
export class TaskLostError extends Error {
  override readonly name = 'TaskLostError';
}

/** Reason of the signal of a task that was revoked. */
export class TaskRevokedError extends Error {
  override readonly name = 'TaskRevokedError';
}

/** Its result is no JSON or too deep. What it has done is rolled back, and its sender is told. */
export class TaskResultError extends Error {
  override readonly name = 'TaskResultError';
}

/** What `retry` throws. */
export class TaskRetryError extends Error {
  override readonly name = 'TaskRetryError';
  constructor(
    readonly afterMs: number,
    reason: string,
  ) {
    super(reason);
  }
}

export const defaultTaskPolicy = { maxRetries: 3, backoff: { baseMs: 60_000, factor: 2, maxMs: 3_600_000, jitter: 0 } };

/** How far a task is. */
export interface Progress {
  readonly current: number;
  readonly total: number;
  /** 0 to 100. */
  readonly percent: number;
  readonly detail?: unknown;
}

/** @throws TerminalError when the numbers make no sense, or the detail is no JSON or too deep */
export function progressOf(current: number, total: number, detail?: unknown): Progress {
  if (!(current >= 0 && total >= current && Number.isFinite(total))) {
    throw new TerminalError(`progress ${current} of ${total} makes no sense; give 0 <= current <= total`);
  }
  const percent = total === 0 ? 100 : Math.floor((100 * current) / total);
  return { current, total, percent, ...(detail === undefined ? {} : { detail: storableValue(detail, 'its detail') }) };
}

const longestState = 1_048_576;

/** @throws TerminalError when it is no JSON value, or too long */
export function stateText(state: unknown): string {
  const text = JSON.stringify(state) as string | undefined;
  if (text === undefined) throw new TerminalError('the state of a task is a JSON value; give null for none');
  const unstorable = findUnstorable(state);
  if (unstorable) throw new TerminalError(`the state of a task: ${unstorable.field || 'it'} ${unstorable.problem}`);
  if (text.length <= longestState) return text;
  throw new TerminalError(`the state of a task is ${text.length} characters long; save at most ${longestState}`);
}

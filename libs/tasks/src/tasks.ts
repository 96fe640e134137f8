import { hostname } from 'node:os';
import type { z } from 'zod';
import {
  Attempt,
  Batches,
  type CommandQueue,
  completeTimeLimit,
  type Messaging,
  revocationAddress,
  type RevokeTask,
  type DataOf,
  deadLetter,
  discard,
  done,
  doneAs,
  errorText,
  type FailurePolicy,
  keptOf,
  KeyedQueue,
  type Logger,
  type Message,
  type MessageDefinition,
  outageRetryMs,
  type Outcome,
  type Received,
  redact,
  retriesExhausted,
  retry,
  retryBlameless,
  runStatement,
  triage,
} from '@starter/messaging';
import { IsolatedTasks, type IsolatedTask } from './isolated/isolated-tasks.js';
import { RunningTasks } from './running-tasks.js';
import {
  defaultTaskPolicy,
  TaskLostError,
  TaskResultError,
  TaskRetryError,
  TaskRevokedError,
  type TaskHandler,
  type TaskOptions,
} from './task-context.js';
import { TaskControl, TaskEndedError } from './task-control.js';
import { beginTasks, fail, saveState, type Start, type Started } from './task-rows.js';
import { endAsRevoked, TaskRun, type SavedState, type TaskEnvironment } from './task-run.js';

export interface TasksOptions {
  /** Tasks that a process performs at the same time, those in workers of their own not counted. Default 10. */
  readonly concurrency?: number;
  /** How long tasks that are over can be looked at, and a revocation of one that has not come holds. Default 7 days. */
  readonly retentionMs?: number;
}

/** By the service that they are part of. */
const joined = new WeakMap<Messaging, Tasks>();
const weekMs = 7 * 86_400_000;

interface Registered {
  readonly queue: CommandQueue;
  readonly definition: MessageDefinition;
  readonly handler: TaskHandler<unknown>;
  readonly failurePolicy: FailurePolicy;
  readonly timeLimit: { readonly softMs: number; readonly hardMs: number };
}

/**
 * Commands whose life is recorded: how they stand, how far they are, what came of them; they can be looked at and revoked.
 * They follow the rules of all commands (inbox, failure policy, rate limits, dead letters, replies), and come in queues of their
 * own: `<service>.tasks`, and for those in workers `<service>.tasks.<type>`, each with as many in hand as it has workers.
 */
export class Tasks extends TaskControl {
  private readonly environment: TaskEnvironment;
  private readonly running: RunningTasks;
  private readonly handled = new Set<string>();
  private readonly deliveries = new KeyedQueue();
  private readonly starting: Batches<Start, Started>;
  private readonly isolated: IsolatedTasks[] = [];
  private readonly logger: Logger;
  private shared: CommandQueue | undefined;
  /** Of this process, as it stands in `active`. */
  readonly worker = `${this.service}@${hostname()}:${process.pid}`;

  constructor(
    private readonly messaging: Messaging,
    private readonly options: TasksOptions = {},
  ) {
    super(messaging);
    const { dataSource, logger, commands } = messaging;
    this.logger = logger;
    this.running = new RunningTasks({ dataSource, logger });
    this.starting = new Batches((starts) => beginTasks(dataSource, starts));
    const saving = new Batches<SavedState, boolean>(async (states) => {
      const rows = await runStatement<{ id: string }>(dataSource, saveState, [
        states.map(({ id }) => id),
        states.map(({ run }) => run),
        `[${states.map(({ text }) => text).join()}]`,
      ]);
      const saved = new Set(rows.map(({ id }) => id));
      return states.map(({ id }) => saved.has(id));
    });
    this.environment = { service: messaging.service, dataSource, outbox: messaging.outbox, saving };
    commands.onRevoked(({ data }) => this.revokeSent(data));
    joined.set(messaging, this);
    messaging.extend({
      retained: [{ table: 'task', column: 'ended_at', retentionMs: options.retentionMs ?? weekMs }],
      stop: () => this.stop(),
    });
  }

  /**
   * Those of a service.
   * @throws Error when it has none
   */
  static of(messaging: Messaging): Tasks {
    const tasks = joined.get(messaging);
    if (tasks) return tasks;
    throw new Error(`${messaging.service} has no tasks; import TasksModule.forRoot() in its module`);
  }

  /**
   * Registers the handler of a task, before the application has started; either a function, or a module whose handler runs in
   * a process or thread of its own and is killed with it at its hard limit, or when it is terminated.
   * @throws Error when its retries take longer than the inbox knows a message
   */
  handle<Schema extends z.ZodType>(
    definition: MessageDefinition & { readonly schema: Schema },
    handler: TaskHandler<z.output<Schema>> | IsolatedTask,
    options: TaskOptions = {},
  ): void {
    this.handled.add(definition.type);
    const failurePolicy = { ...defaultTaskPolicy, ...options.failurePolicy };
    const timeLimit = completeTimeLimit(options.timeLimit);
    const isolated = 'module' in handler ? new IsolatedTasks(handler) : undefined;
    if (isolated) this.isolated.push(isolated);
    const perform = isolated ? isolated.run.bind(isolated) : (handler as TaskHandler<unknown>);
    const queue = isolated ? this.openQueue(`.${definition.type}`, isolated.size) : this.sharedQueue();
    const registered: Registered = { queue, definition, handler: perform, failurePolicy, timeLimit };
    this.messaging.commands.bind(revocationAddress(definition.type));
    // It bounds its time itself, because what becomes of it at the limit is recorded as well.
    queue.commands.handle(
      definition,
      // A copy that is delivered while the first is in hand waits, and then finds what came of it.
      (received) => {
        const deliver = () => this.deliver(registered, received);
        const inTurn = isolated ? () => isolated.whenFree(deliver) : deliver;
        return queue.monitor.bounded(() => this.deliveries.run(received.message.id, inTurn));
      },
      { ...options, failurePolicy, timeLimit: 'none' },
    );
  }

  private sharedQueue(): CommandQueue {
    this.shared ??= this.openQueue('', this.options.concurrency ?? 10);
    return this.shared;
  }

  private openQueue(suffix: string, prefetch: number): CommandQueue {
    return this.messaging.openQueue(`tasks${suffix}`, prefetch);
  }

  private async stop(): Promise<void> {
    for (const isolated of this.isolated) isolated.close();
    await this.running.rest();
  }

  /** Its sender has changed its mind. What is over, or no task, stays as it is. */
  private async revokeSent({ taskId, command, ...revocation }: DataOf<typeof RevokeTask>): Promise<Outcome> {
    if (!this.handled.has(command)) return doneAs.duplicates;
    try {
      await this.revoke(taskId, revocation);
      return done;
    } catch (error) {
      if (error instanceof TaskEndedError) return doneAs.duplicates;
      throw error;
    }
  }

  private async deliver(task: Registered, received: Received): Promise<Outcome> {
    const { attempt, message } = received;
    const consumer = task.queue.commands.queue;
    const stored = redact(task.definition, message);
    const found = await this.starting.call({ message: stored, attempt, consumer, worker: this.worker });
    if (found.run !== null) return this.perform(task, received, found.run, found.savedState);
    if (found.handled || found.state === 'SUCCESS') return doneAs.duplicates;
    if (!found.revoked) return retryBlameless(1_000, 'another process has just begun it');
    return this.refuse(consumer, stored, found);
  }

  /** It was revoked before it could start. */
  private async refuse(consumer: string, message: Message, { answered, state }: Started): Promise<Outcome> {
    if (state === 'REVOKED' && answered) return doneAs.duplicates;
    const { error } = await this.find(message.id);
    await endAsRevoked(this.environment, consumer, message, null, error ?? 'no reason was given');
    return doneAs.discarded;
  }

  private async perform(task: Registered, received: Received, run: number, savedState: unknown): Promise<Outcome> {
    const attempt = new Attempt();
    const stopping = (): void => attempt.abort(received.signal.reason as Error);
    received.signal.addEventListener('abort', stopping);
    const taskRun = new TaskRun(this.environment, task.queue.commands.queue, received, run, savedState, attempt);
    this.running.add(taskRun);
    try {
      const what = `the task ${received.message.type}`;
      await attempt.run(
        what,
        task.timeLimit,
        () => this.runHandler(task, taskRun),
        () => this.reportLate(received.message),
      );
      return done;
    } catch (error) {
      return await this.failed(task, received, taskRun, error);
    } finally {
      received.signal.removeEventListener('abort', stopping);
      this.running.delete(taskRun);
    }
  }

  private reportLate({ id, type }: Message): void {
    this.logger.warn('the handler of a task ended after it was given up; its result is ignored', { id, type });
  }

  private async runHandler({ handler }: Registered, run: TaskRun<unknown>): Promise<void> {
    const result = await handler(run.context());
    if (!run.ended) await run.complete(() => Promise.resolve(result));
  }

  private async failed(task: Registered, received: Received, run: TaskRun<unknown>, error: unknown): Promise<Outcome> {
    const { reason: aborted } = run.attempt.signal as { reason: unknown };
    // It has ended, or is somebody else's: there is nothing to record.
    if (run.ended) return done;
    if (error instanceof TaskLostError) return doneAs.duplicates;
    try {
      if (aborted instanceof TaskRevokedError) {
        await run.endRevoked(aborted.message);
        return doneAs.discarded;
      }
      if (error instanceof TaskResultError) {
        const { definition } = task;
        await run.endFailed(keptOf(received.message, error.message, (message) => redact(definition, message)));
        return discard(error.message);
      }
      const outcome = outcomeOfTask(error, received.attempt, task.failurePolicy);
      await this.recordFailure(run, outcome);
      // The dispatcher records refusals and tells the sender.
      if (outcome.kind === 'discard') throw error;
      return outcome;
    } catch (recordError) {
      if (recordError === error) throw error;
      return retryBlameless(outageRetryMs, `the end of the task could not be recorded: ${errorText(recordError)}`);
    }
  }

  private async recordFailure({ id, run }: TaskRun<unknown>, outcome: Outcome): Promise<void> {
    if (outcome.kind === 'done') return;
    const [state, afterMs] = outcome.kind === 'retry' ? ['RETRY', outcome.afterMs] : ['FAILURE', null];
    await runStatement(this.environment.dataSource, fail, [id, run, state, outcome.reason, afterMs]);
  }
}

function outcomeOfTask(error: unknown, attempt: number, policy: FailurePolicy): Outcome {
  if (!(error instanceof TaskRetryError)) return triage(error, attempt, policy);
  const { maxRetries = 3 } = policy;
  if (attempt <= maxRetries) return retry(error.afterMs, error.message);
  return deadLetter(`still asking for another attempt after ${attempt}: ${error.message}`, retriesExhausted);
}

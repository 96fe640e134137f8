import { HandlerSlots, TransientError } from '@starter/messaging';
import type { TaskContext } from '../task-context.js';
import { WorkerHandle, type Isolation } from './worker-handle.js';

/** A handler that runs outside of the service's process or thread, so that a blocking, leaking or crashing one cannot hurt it. */
export interface IsolatedTask {
  /** Its default export is the handler, an `IsolatedHandler`: `new URL('./export.task.js', import.meta.url)`. */
  readonly module: URL;
  /** A process can also be killed by what it does to its memory without harm to the service; a thread starts faster. */
  readonly isolation: Isolation;
  /** A worker is replaced after so many tasks. Default 100. */
  readonly recycleAfter?: number;
  /** Workers of this process of the service; each has one task in hand. Default 1. */
  readonly size?: number;
}

/** The workers of one type of task, started when they are needed. */
export class IsolatedTasks {
  private readonly idle: WorkerHandle[] = [];
  private readonly all = new Set<WorkerHandle>();
  private readonly slots = new HandlerSlots(
    () => this.size,
    () => undefined,
  );
  private closed = false;

  constructor(private readonly options: IsolatedTask) {}

  /** Workers of this process. */
  get size(): number {
    return this.options.size ?? 1;
  }

  /** Runs `work` when a worker is free; until then the task has not started. */
  async whenFree<T>(work: () => Promise<T>): Promise<T> {
    await this.slots.take();
    try {
      return await work();
    } finally {
      this.slots.release();
    }
  }

  async run(context: TaskContext): Promise<unknown> {
    const { module, isolation, recycleAfter = 100 } = this.options;
    const worker = this.worker(isolation);
    const { data, message, attempt, savedState } = context;
    try {
      return await worker.run(
        { kind: 'run', module: module.href, given: { data, message, attempt, savedState } },
        context,
      );
    } finally {
      if (worker.tasks >= recycleAfter) worker.kill();
      if (worker.dead) this.all.delete(worker);
      else this.idle.push(worker);
    }
  }

  close(): void {
    this.closed = true;
    for (const worker of this.all) worker.kill();
  }

  private worker(isolation: Isolation): WorkerHandle {
    if (this.closed) throw new TransientError('the service stops; the task is delivered again');
    for (let idle = this.idle.pop(); idle; idle = this.idle.pop()) {
      if (!idle.dead) return idle;
      this.all.delete(idle);
    }
    const worker = new WorkerHandle(isolation);
    this.all.add(worker);
    return worker;
  }
}

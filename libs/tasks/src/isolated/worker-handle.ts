import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { TransientError } from '@starter/messaging';
import { TaskRetryError, type TaskContext } from '../task-context.js';
import { flatten, unflatten, type FromWorker, type ToWorker } from './isolated-messages.js';

export type Isolation = 'process' | 'thread';

// Specs run the sources, which Node cannot: what is built stands beside them.
const entry = new URL(import.meta.url.replace('/src/', '/dist/').replace(/worker-handle\.\w+$/, 'isolated-worker.js'));

interface Channel {
  post(message: ToWorker): void;
  kill(): void;
}

type Reported = Pick<TaskContext, 'progress' | 'heartbeat' | 'saveState' | 'signal' | 'fence'>;

/** One process or thread that runs tasks, one after the other. */
export class WorkerHandle {
  /** Tasks that it has run. */
  tasks = 0;
  dead = false;
  private readonly channel: Channel;
  private heard: (message: FromWorker) => void = () => undefined;
  private ended: (why: string) => void = () => undefined;

  constructor(isolation: Isolation) {
    const exited = (why: string) => {
      this.dead = true;
      this.ended(why);
    };
    this.channel = (isolation === 'process' ? openProcess : openThread)((message) => this.heard(message), exited);
  }

  kill(): void {
    this.dead = true;
    this.channel.kill();
  }

  /**
   * Runs a handler there. Whoever is out of time or terminated is killed, with its worker.
   * @throws TransientError when the worker ends before the task
   */
  async run(message: Extract<ToWorker, { kind: 'run' }>, context: Reported): Promise<unknown> {
    this.tasks += 1;
    const abort = (): void => this.channel.post({ kind: 'abort', reason: flatten(context.signal.reason) });
    context.signal.addEventListener('abort', abort);
    try {
      const working = new Promise<unknown>((resolve, reject) => {
        this.ended = (why) =>
          reject(new TransientError(`the worker of the task ${why}; look what its handler does to it`));
        this.heard = (heard) => {
          if (heard.kind === 'result') resolve(heard.result);
          else if (heard.kind === 'error') reject(errorOf(heard.error));
          else if (heard.kind === 'save') void this.save(heard.state, context);
          else if (heard.progress)
            context.progress(heard.progress.current, heard.progress.total, heard.progress.detail);
          else context.heartbeat();
        };
        this.channel.post(message);
      });
      return await Promise.race([working, context.fence.over ?? working]);
    } catch (error) {
      if (isOver(context)) this.kill();
      throw error;
    } finally {
      context.signal.removeEventListener('abort', abort);
    }
  }

  private async save(state: unknown, context: Reported): Promise<void> {
    await context.saveState(state).then(
      () => this.channel.post({ kind: 'saved' }),
      (error: unknown) => this.channel.post({ kind: 'saved', error: flatten(error) }),
    );
  }
}

function isOver({ fence }: Reported): boolean {
  try {
    fence.throwIfOver();
    return false;
  } catch {
    return true;
  }
}

const errorOf = (error: Parameters<typeof unflatten>[0]): Error =>
  error.afterMs === undefined ? unflatten(error) : new TaskRetryError(error.afterMs, error.message);

type Open = (heard: (message: FromWorker) => void, exited: (why: string) => void) => Channel;

const openProcess: Open = (heard, exited) => {
  const child = fork(fileURLToPath(entry), { serialization: 'advanced', execArgv: [] });
  child.on('message', (message) => heard(message as FromWorker));
  child.on('error', (error) => exited(`failed: ${error.message}`));
  child.on('exit', (code, signal) => exited(`has ended with ${signal ?? code}`));
  child.unref();
  child.channel?.unref();
  return {
    post: (message) => void (child.connected && child.send(message)),
    kill: () => void child.kill('SIGKILL'),
  };
};

const openThread: Open = (heard, exited) => {
  const worker = new Worker(entry, { execArgv: [] });
  worker.on('message', (message) => heard(message as FromWorker));
  worker.on('error', (error) => exited(`failed: ${String(error)}`));
  worker.on('exit', (code) => exited(`has ended with ${code}`));
  worker.unref();
  return { post: (message) => worker.postMessage(message), kill: () => void worker.terminate() };
};

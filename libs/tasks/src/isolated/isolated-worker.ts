import { parentPort } from 'node:worker_threads';
import { progressOf, stateText, TaskRetryError } from '../task-context.js';
import {
  flatten,
  unflatten,
  type FromWorker,
  type Given,
  type IsolatedContext,
  type IsolatedHandler,
  type ToWorker,
} from './isolated-messages.js';

// Runs in the worker, one task at a time.
const send = (message: FromWorker): void =>
  void (parentPort ? parentPort.postMessage(message) : process.send?.(message));
const saves: { resolve: () => void; reject: (error: Error) => void }[] = [];
let controller = new AbortController();

async function run(module: string, given: Given): Promise<void> {
  controller = new AbortController();
  const context: IsolatedContext = {
    ...given,
    signal: controller.signal,
    progress: (current, total, detail) => send({ kind: 'said', progress: progressOf(current, total, detail) }),
    heartbeat: () => send({ kind: 'said' }),
    saveState: (state) =>
      new Promise((resolve, reject) => {
        const text = stateText(state);
        saves.push({ resolve, reject });
        send({ kind: 'save', state: JSON.parse(text) });
      }),
    retry: (afterMs, reason = 'the handler has asked for another attempt') => {
      throw new TaskRetryError(afterMs, reason);
    },
  };
  try {
    const { default: handler } = (await import(module)) as { readonly default: IsolatedHandler };
    send({ kind: 'result', result: await handler(context) });
  } catch (error) {
    send({ kind: 'error', error: flatten(error) });
  }
}

function hear(message: ToWorker): void {
  if (message.kind === 'run') return void run(message.module, message.given);
  if (message.kind === 'abort') return controller.abort(unflatten(message.reason));
  // Answers come in the order of the questions.
  const asked = saves.shift();
  if (message.error) asked?.reject(unflatten(message.error));
  else asked?.resolve();
}

if (parentPort) parentPort.on('message', hear);
else process.on('message', hear);
// Nobody waits for it any more when its service is gone.
process.on('disconnect', () => process.exit(0));

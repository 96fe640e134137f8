import { TimeoutError } from '@starter/messaging';
import { Session } from 'node:inspector';
import { runInThisContext } from 'node:vm';

const session = new Session();
session.connect();

type Outcome<T> = { readonly value: T } | { readonly error: unknown };

/** Where the inspector looks for what it is to run: the globals of the process, which Jest keeps from its modules. */
const globals = runInThisContext('globalThis') as Record<string, unknown>;
const name = 'runWithinTime';

/**
 * Runs synchronous code and cuts it off when it does not come to an end: no timer can do that, because the code would never
 * let one fire. It costs about 0.05 ms, whatever the code does. The time limit of `node:vm` does the same with a thread for
 * every call; it waits for the end of that thread, which on a busy machine took 3 ms.
 * @throws TimeoutError
 */
export function withinTime<T>(limitMs: number, what: string, run: () => T): T {
  let outcome: Outcome<T> | undefined;
  globals[name] = () => {
    try {
      outcome = { value: run() };
    } catch (error) {
      outcome = { error };
    }
  };
  session.post('Runtime.evaluate', { expression: `${name}()`, timeout: limitMs, silent: true });
  globals[name] = undefined;
  return resultOf(outcome, `${what} took longer than ${limitMs} ms and was cut off; look for a loop that does not end`);
}

function resultOf<T>(outcome: Outcome<T> | undefined, cutOff: string): T {
  if (!outcome) throw new TimeoutError(cutOff);
  if ('error' in outcome) throw outcome.error;
  return outcome.value;
}

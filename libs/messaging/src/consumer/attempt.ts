import type { Fence } from '../database/transaction.js';
import { TerminalError, TimeoutError } from '../errors.js';
import { longestTimerMs } from '../long-timer.js';

export interface TimeLimit {
  /** Aborts `received.signal`, in milliseconds: time to stop and to clean up. Default five sixths of `hardMs`: 25 minutes. */
  readonly softMs?: number;
  /** Fails the attempt with a TimeoutError and closes its fence, in milliseconds. Default 1 800 000: 30 minutes. */
  readonly hardMs?: number;
}

/**
 * One attempt of a handler at its work. Its soft limit aborts the signal; its hard limit gives up on it, whatever it does:
 * the next attempt may begin, and a transaction that got the fence of this one is rolled back.
 */
export class Attempt implements Fence {
  /** Made when somebody looks: most handlers never do, and it costs more than all the rest of an attempt. */
  private made: AbortController | undefined;
  private timer: NodeJS.Timeout | undefined;
  private failure: Error | undefined;
  private reject: ((failure: Error) => void) | undefined;
  private giveUp: ((failure: Error) => void) | undefined;
  private whenOver: Promise<never> | undefined;

  /** Aborts at the soft limit, or when the service stops and does not wait any longer; its reason says which. */
  get signal(): AbortSignal {
    return this.controller.signal;
  }

  private get controller(): AbortController {
    return (this.made ??= new AbortController());
  }

  abort(reason: Error): void {
    this.controller.abort(reason);
  }

  /** Gives up on the work at once, as at the hard limit. */
  fail(failure: Error): void {
    if (this.failure) return;
    this.failure = failure;
    this.abort(failure);
    this.giveUp?.(failure);
    this.reject?.(failure);
  }

  throwIfOver(): void {
    if (this.failure) throw this.failure;
  }

  get over(): Promise<never> {
    if (this.whenOver) return this.whenOver;
    this.whenOver = this.failure ? Promise.reject(this.failure) : new Promise((_, reject) => (this.giveUp = reject));
    // Nobody may be waiting any more.
    this.whenOver.catch(() => undefined);
    return this.whenOver;
  }

  /**
   * `what` stands in errors; `onLate` is called when the work ends after it was given up.
   * @throws TimeoutError at the hard limit, else what `work` throws
   */
  run<T>(
    what: string,
    { softMs, hardMs }: Required<TimeLimit>,
    work: (attempt: Attempt) => Promise<T>,
    onLate: () => void,
  ): Promise<T> {
    return new Promise((resolve, reject) => {
      this.reject = reject;
      // Unreferenced: a handler that hangs must not keep a process alive that has nothing else to do.
      this.timer = setTimeout(() => {
        this.abort(new TimeoutError(`${what} has run for ${softMs} ms, its soft time limit; end it now`));
        this.timer = setTimeout(() => {
          const advice = 'pass received.signal on to what it waits for, or raise its timeLimit';
          this.fail(new TimeoutError(`${what} ran for more than ${hardMs} ms, its hard time limit; ${advice}`));
        }, hardMs - softMs).unref();
      }, softMs).unref();
      const end = (settle: () => void) => {
        clearTimeout(this.timer);
        if (this.failure) onLate();
        else settle();
      };
      // In an async function, so that a synchronous throw is a rejection.
      (async () => work(this))().then(
        (result) => end(() => resolve(result)),
        (error: Error) => end(() => reject(error)),
      );
    });
  }
}

/**
 * Both limits, the missing ones filled in.
 * @throws TerminalError when they make no sense
 */
export function completeTimeLimit({ softMs, hardMs = 1_800_000 }: TimeLimit = {}): Required<TimeLimit> {
  const soft = softMs ?? Math.floor((hardMs * 5) / 6);
  if (soft > 0 && soft <= hardMs && hardMs <= longestTimerMs) return { softMs: soft, hardMs };
  const wanted = `give milliseconds with 0 < softMs <= hardMs <= ${longestTimerMs}`;
  throw new TerminalError(`The time limit softMs ${soft}, hardMs ${hardMs} makes no sense; ${wanted}`);
}

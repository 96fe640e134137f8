import type { DataSource } from 'typeorm';
import { runStatement, type Statement } from '../database/transaction.js';
import { errorText, type Logger } from '../logger.js';

export interface WaitOptions {
  /** How long to wait at most, in milliseconds. */
  readonly timeoutMs: number;
  /** Ends the wait early. */
  readonly signal?: AbortSignal;
}

interface Waiter {
  readonly key: string;
  readonly sequence: number;
  readonly end: (reached: boolean) => void;
}

const select: Statement = {
  name: 'inbox-sequence-reached',
  text: `SELECT key, sequence::float8 AS handled FROM inbox_sequence WHERE consumer = $1 AND key = ANY($2)`,
};

/** Those who wait until a consumer has handled a key up to a sequence, here or in another process. */
export class SequenceWaiters {
  private readonly waiters = new Set<Waiter>();
  private polling = false;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly options: {
      readonly consumer: string;
      readonly dataSource: DataSource;
      readonly logger: Logger;
      /** How often the database is asked, once for all who wait: another process may own the partition. */
      readonly pollMs: number;
    },
  ) {}

  /** @returns false when the time was up, the signal aborted or the consumer stopped before */
  wait(key: string, sequence: number, { timeoutMs, signal }: WaitOptions): Promise<boolean> {
    return new Promise((resolve) => {
      const waiter: Waiter = { key, sequence, end: (reached) => end(reached) };
      const giveUp = (): void => waiter.end(false);
      const timer = setTimeout(giveUp, timeoutMs);
      const end = (reached: boolean): void => {
        clearTimeout(timer);
        signal?.removeEventListener('abort', giveUp);
        this.waiters.delete(waiter);
        resolve(reached);
      };
      this.waiters.add(waiter);
      signal?.addEventListener('abort', giveUp);
      if (signal?.aborted) giveUp();
      else void this.poll();
    });
  }

  /** These keys have been handled up to these sequences, in this process. */
  tell(handled: ReadonlyMap<string, number>): void {
    for (const { key, sequence, end } of this.waiters) if ((handled.get(key) ?? 0) >= sequence) end(true);
  }

  stop(): void {
    for (const { end } of this.waiters) end(false);
    clearTimeout(this.timer);
  }

  private async poll(): Promise<void> {
    clearTimeout(this.timer);
    if (this.polling || this.waiters.size === 0) return;
    this.polling = true;
    const { consumer, dataSource, logger, pollMs } = this.options;
    try {
      const keys = [...new Set([...this.waiters].map(({ key }) => key))];
      const rows = await runStatement<{ key: string; handled: number }>(dataSource, select, [consumer, keys]);
      this.tell(new Map(rows.map(({ key, handled }) => [key, handled])));
    } catch (error) {
      logger.warn('could not look how far a consumer is; it is tried again', { consumer, error: errorText(error) });
    }
    this.polling = false;
    clearTimeout(this.timer);
    if (this.waiters.size > 0) this.timer = setTimeout(() => void this.poll(), pollMs);
  }
}

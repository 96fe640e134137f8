import { setTimeout as sleep } from 'node:timers/promises';
import { failpoint } from '../failpoint.js';
import { errorText, type Logger } from '../logger.js';

/** Per partition the offset of the first record that has not settled. */
export type Positions = ReadonlyMap<number, bigint>;

/** A quiet group commits at once, a busy one commits what gathered in this time with one request. */
const intervalMs = 25;

/** Commits the newest position of each partition that the member owns, one request at a time. */
export class OffsetCommitter {
  private owned: ReadonlySet<number> = new Set();
  private readonly waiting = new Map<number, bigint>();
  private committing: Promise<void> | undefined;

  constructor(
    private readonly commit: (positions: Positions) => Promise<void>,
    private readonly logger: Logger,
  ) {}

  /** What is noted of other partitions is forgotten: the broker checks the generation of a commit, not the owner. */
  own(partitions: readonly number[]): void {
    this.owned = new Set(partitions);
    for (const partition of [...this.waiting.keys()]) if (!this.owned.has(partition)) this.waiting.delete(partition);
  }

  note(partition: number, position: bigint): void {
    if (!this.owned.has(partition)) return;
    this.waiting.set(partition, position);
    this.committing ??= this.commitUntilDone().finally(() => (this.committing = undefined));
  }

  /** Resolves when everything noted is committed, or after `ms` milliseconds. */
  async flush(ms: number): Promise<void> {
    if (!this.committing) return;
    const over = new AbortController();
    await Promise.race([this.committing, sleep(ms, undefined, { signal: over.signal }).catch(() => undefined)]);
    over.abort();
  }

  private async commitUntilDone(): Promise<void> {
    while (this.waiting.size > 0) {
      const positions = new Map(this.waiting);
      this.waiting.clear();
      try {
        failpoint('event.before-offset');
        await this.commit(positions);
      } catch (error) {
        // Usual while the group rebalances. If the partition is lost meanwhile, its next owner starts further back.
        this.logger.debug('could not commit offsets, trying again', { error: errorText(error) });
        this.putBack(positions);
      }
      if (this.waiting.size > 0) await sleep(intervalMs);
    }
  }

  private putBack(positions: Positions): void {
    for (const [partition, position] of positions) {
      if (this.owned.has(partition) && !this.waiting.has(partition)) this.waiting.set(partition, position);
    }
  }
}

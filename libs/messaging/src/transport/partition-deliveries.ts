import { setMaxListeners } from 'node:events';
import type { StoredRecord } from './event-record.js';
import { settleRecord, type SettleContext } from './settle-record.js';
import { SettledOffsets } from './settled-offsets.js';

/** Where a member takes the next records of a partition from, when it has room. */
export interface RecordSource {
  /** The next record in the order of offsets, or undefined when none is there yet. */
  next(): StoredRecord | undefined;
}

/** The records of one partition that a member is working on, from the assignment of the partition to its loss. */
export class PartitionDeliveries {
  private readonly window = new SettledOffsets();
  private readonly abandoned = new AbortController();
  private unsettled = 0;

  /** `onSettled` gets the new position whenever the settled prefix grew. It is not called once abandoned. */
  constructor(
    readonly source: RecordSource,
    private readonly windowLimit: number,
    private readonly context: SettleContext,
    private readonly onSettled: (position: bigint) => void,
  ) {
    // Every record that waits for its retry listens; the window bounds them.
    setMaxListeners(0, this.abandoned.signal);
  }

  /** Records whose handler has not come to its last outcome. */
  get inFlight(): number {
    return this.unsettled;
  }

  /**
   * Takes the next record if there is one and the window has room: a record that is retried for long holds back the
   * offset, and everything behind it would be delivered again after a crash.
   */
  take(): StoredRecord | undefined {
    return this.window.size < this.windowLimit ? this.source.next() : undefined;
  }

  /** The caller has taken a slot for it. */
  handle(record: StoredRecord): void {
    const ticket = this.window.begin(record.offset);
    this.unsettled++;
    settleRecord(record, this.context, this.abandoned.signal, (settled) => {
      this.unsettled--;
      if (!settled || this.abandoned.signal.aborted) return;
      if (this.window.settle(ticket) && this.window.position !== undefined) this.onSettled(this.window.position);
    });
  }

  /** The partition is another member's now: what settles from here on must not move its offset. */
  abandon(): void {
    this.abandoned.abort();
  }
}

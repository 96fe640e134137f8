import { setMaxListeners } from 'node:events';
import type { StandStill } from '../stand-stills.js';
import { recordBytes, type StoredRecord } from './event-record.js';
import { originOf, settleRecord, type SettleContext } from './settle-record.js';
import { SettledOffsets } from './settled-offsets.js';

/** Where a member takes the next records of a partition from, when it has room. */
export interface RecordSource {
  /** The next record in the order of offsets, or undefined when none is there yet. */
  next(): StoredRecord | undefined;
  /** Bytes of that record, undefined when there is none. */
  readonly nextBytes: number | undefined;
  /** End of the partition's log about when this member got it: what lies before may have been in hand of another. */
  readonly end: bigint;
}

export interface PartitionLimits {
  /** Most records between the first that has not settled and the last that was taken. */
  readonly records: number;
  /** Most bytes of records that have not settled; a larger record comes alone. */
  readonly bytes: number;
}

/** The records of one partition that a member is working on, from the assignment of the partition to its loss. */
export class PartitionDeliveries {
  private readonly window = new SettledOffsets();
  private readonly abandoned = new AbortController();
  private unsettled = 0;
  private size = 0;
  private older = 0;
  private movedAt = 0;

  /** `onSettled` gets the new position whenever the settled prefix grew. It is not called once abandoned. */
  constructor(
    private readonly partition: number,
    readonly source: RecordSource,
    private readonly limits: () => PartitionLimits,
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

  get bytes(): number {
    return this.size;
  }

  /**
   * Takes the next record if there is one and there is room for it: a record that is retried for long holds back the
   * offset, and everything behind it would be delivered again after a crash.
   */
  take(): StoredRecord | undefined {
    const { nextBytes } = this.source;
    if (nextBytes === undefined) return undefined;
    const { records, bytes } = this.limits();
    if (this.window.size >= records || (this.unsettled > 0 && this.size + nextBytes > bytes)) return undefined;
    return this.source.next();
  }

  /** The offset cannot move on, for longer than so many milliseconds. */
  standStill(ms: number): StandStill | undefined {
    const { first } = this.window;
    const forMs = performance.now() - this.movedAt;
    if (first === undefined || forMs <= ms) return undefined;
    const place = originOf({ partition: this.partition, offset: first }, this.context.topic);
    return { place, forMs, why: `${this.context.group} has not come to an end with it` };
  }

  /** The caller has taken a slot for it. */
  handle(record: StoredRecord): void {
    if (this.window.size === 0) this.movedAt = performance.now();
    const ticket = this.window.begin(record.offset);
    const bytes = recordBytes(record);
    this.unsettled++;
    this.size += bytes;
    settleRecord(record, this.context, this.mayHaveBeenInHand(record), this.abandoned.signal, (settled) => {
      this.unsettled--;
      this.size -= bytes;
      if (!settled || this.abandoned.signal.aborted) return;
      if (!this.window.settle(ticket) || this.window.position === undefined) return;
      this.movedAt = performance.now();
      this.onSettled(this.window.position);
    });
  }

  /** Of the member that had the partition before: it had no more in hand than this one may have. */
  private mayHaveBeenInHand({ offset }: StoredRecord): boolean {
    return offset < this.source.end && this.older++ < this.limits().records;
  }

  /** The partition is another member's now: what settles from here on must not move its offset. */
  abandon(): void {
    this.abandoned.abort();
  }
}

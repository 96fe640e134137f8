import type { KafkaMessage } from 'kafkajs';
import { recordBytes, type StoredRecord } from '../transport/event-record.js';
import type { RecordSource } from '../transport/partition-deliveries.js';

/** More than this many records of a partition waiting for a handler, or bytes of them: its fetching pauses. */
const enough = { records: 2_000, bytes: 1024 * 1024 };
/**
 * … until so few are left. Not far below, because kafkajs looks only after its `maxWaitTimeInMs` whether a partition flows
 * again, when all of them were paused.
 */
const room = { records: 1_500, bytes: 768 * 1024 };

/** What has been fetched of one partition and waits for a free handler. */
export class FetchedRecords implements RecordSource {
  private readonly batches: (readonly KafkaMessage[])[] = [];
  /** The next record in the first batch. */
  private index = 0;
  private size = 0;
  private bytes = 0;
  /** Of what comes next from the broker; undefined before anything has come. */
  private nextOffset: bigint | undefined;
  /** Ranges without records: their first offset, and the one behind them. */
  private readonly passed: { readonly from: bigint; readonly to: bigint }[] = [];
  private settledTo: bigint | undefined;
  private firstEnd: bigint | undefined;
  private wasFull = false;

  /** `onRoom` is called when the queue, having been full, can take more. */
  constructor(
    private readonly partition: number,
    private readonly onRoom: () => void,
  ) {}

  get full(): boolean {
    return this.size >= enough.records || this.bytes >= enough.bytes;
  }

  get nextBytes(): number | undefined {
    const message = this.batches[0]?.[this.index];
    return message && recordBytes(message);
  }

  /** End of the log when the first records came. */
  get end(): bigint {
    return this.firstEnd ?? 0n;
  }

  /**
   * After a rebalance kafkajs fetches again from the committed offset; what this member already has is left out.
   * `end` is that of the log.
   */
  add(messages: readonly KafkaMessage[], end: bigint): void {
    this.firstEnd ??= end;
    const read = this.nextOffset ?? 0n;
    const fresh = messages.findIndex(({ offset }) => BigInt(offset) >= read);
    const last = messages.at(-1);
    if (fresh < 0 || !last) return;
    const batch = fresh === 0 ? messages : messages.slice(fresh);
    this.nextOffset = BigInt(last.offset) + 1n;
    this.batches.push(batch);
    this.size += batch.length;
    for (const message of batch) this.bytes += recordBytes(message);
    this.wasFull = this.full;
  }

  /**
   * Up to the offset `to` there is nothing more for us: control records, aborted transactions, what compaction has removed.
   * @returns the position to commit when nothing before it is in hand
   */
  pass(to: bigint): bigint | undefined {
    const from = this.nextOffset;
    if (from !== undefined && to <= from) return undefined;
    this.nextOffset = to;
    if (from !== undefined && from !== this.settledTo) return void this.passed.push({ from, to });
    return (this.settledTo = to);
  }

  /** All records before `position` have settled. @returns the position to commit: behind what holds no records, too */
  settle(position: bigint): bigint {
    let settled = position;
    for (let first = this.passed[0]; first && first.from <= settled; first = this.passed[0]) {
      if (first.to > settled) settled = first.to;
      this.passed.shift();
    }
    return (this.settledTo = settled);
  }

  next(): StoredRecord | undefined {
    const batch = this.batches[0];
    const message = batch?.[this.index];
    if (!batch || !message) return undefined;
    this.index += 1;
    if (this.index === batch.length) {
      this.batches.shift();
      this.index = 0;
    }
    this.size -= 1;
    this.bytes -= recordBytes(message);
    if (this.wasFull && this.size <= room.records && this.bytes <= room.bytes) {
      this.wasFull = false;
      this.onRoom();
    }
    const { key, value, headers = {}, offset, timestamp } = message;
    return { partition: this.partition, offset: BigInt(offset), key, value, headers, timestamp: Number(timestamp) };
  }
}

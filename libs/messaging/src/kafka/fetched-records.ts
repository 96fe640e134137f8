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
  private nextOffset = 0n;
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

  /** After a rebalance kafkajs fetches again from the committed offset; what this member already has is left out. */
  add(messages: readonly KafkaMessage[]): void {
    const fresh = messages.findIndex(({ offset }) => BigInt(offset) >= this.nextOffset);
    const last = messages.at(-1);
    if (fresh < 0 || !last) return;
    const batch = fresh === 0 ? messages : messages.slice(fresh);
    this.nextOffset = BigInt(last.offset) + 1n;
    this.batches.push(batch);
    this.size += batch.length;
    for (const message of batch) this.bytes += recordBytes(message);
    this.wasFull = this.full;
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

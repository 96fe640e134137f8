import type { KafkaMessage } from 'kafkajs';
import type { StoredRecord } from '../transport/event-record.js';
import type { RecordSource } from '../transport/partition-deliveries.js';

/** More than this many records of a partition waiting for a handler: its fetching pauses. */
const enough = 2_000;
/**
 * … until so few are left. Not far below, because kafkajs looks only after its `maxWaitTimeInMs` whether a partition flows
 * again, when all of them were paused.
 */
const room = 1_500;

/** What has been fetched of one partition and waits for a free handler. */
export class FetchedRecords implements RecordSource {
  private readonly batches: (readonly KafkaMessage[])[] = [];
  /** The next record in the first batch. */
  private index = 0;
  private size = 0;
  private nextOffset = 0n;

  /** `onRoom` is called when the queue, having been full, can take more. */
  constructor(
    private readonly partition: number,
    private readonly onRoom: () => void,
  ) {}

  get full(): boolean {
    return this.size >= enough;
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
    if (this.size === room) this.onRoom();
    const { key, value, headers = {}, offset, timestamp } = message;
    return { partition: this.partition, offset: BigInt(offset), key, value, headers, timestamp: Number(timestamp) };
  }
}

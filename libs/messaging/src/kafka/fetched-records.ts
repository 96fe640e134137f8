import type { KafkaMessage } from 'kafkajs';
import { LinkedQueue } from '../linked-queue.js';
import type { StoredRecord } from '../transport/event-record.js';
import type { RecordSource } from '../transport/partition-deliveries.js';

/** More than this many records of a partition waiting for a handler: its fetching pauses until half are gone. */
const enough = 1000;

/** What has been fetched of one partition and waits for a free handler. */
export class FetchedRecords implements RecordSource {
  private readonly queue = new LinkedQueue<StoredRecord>();
  private nextOffset = 0n;

  /** `onRoom` is called when the queue, having been full, can take more. */
  constructor(
    private readonly partition: number,
    private readonly onRoom: () => void,
  ) {}

  get full(): boolean {
    return this.queue.size >= enough;
  }

  /** After a rebalance kafkajs fetches again from the committed offset; what this member already has is left out. */
  add(messages: readonly KafkaMessage[]): void {
    const { partition } = this;
    for (const { key, value, headers = {}, offset: text, timestamp } of messages) {
      const offset = BigInt(text);
      if (offset < this.nextOffset) continue;
      this.nextOffset = offset + 1n;
      this.queue.push({ partition, offset, key, value, headers, timestamp: Number(timestamp) });
    }
  }

  next(): StoredRecord | undefined {
    const record = this.queue.shift();
    if (record && this.queue.size === enough / 2) this.onRoom();
    return record;
  }
}

import type { Message as KafkaMessage } from 'kafkajs';
import { NotConfirmedError, type PublishResult } from '../errors.js';
import type { EventRecord, RecordHeaders } from '../transport/event-record.js';

export interface PartitionedRecord extends EventRecord {
  readonly partition: number;
}

/** kafkajs makes one record batch per partition of a request, and the broker takes batches of about a megabyte. */
const sliceBytes = 512 * 1024;
/** kafkajs copies its list once per record: the cost of a request grows with the square of this. */
const sliceRecords = 1000;

/** A part of a publication that travels in one request. */
export interface Slice {
  readonly publication: Publication;
  readonly entries: readonly Entry[];
  readonly bytes: number;
}

/** One record of a publication, at its place there. */
export interface Entry {
  readonly publication: Publication;
  readonly index: number;
  readonly record: PartitionedRecord;
}

/** One call of `publish`: resolves with what became of each record, when that is known of all or when its time is up. */
export class Publication {
  readonly result: Promise<PublishResult[]>;
  private readonly results: (PublishResult | undefined)[];
  private open: number;
  private resolve!: (results: PublishResult[]) => void;
  private readonly since = performance.now();
  private readonly expiry: NodeJS.Timeout;

  constructor(
    readonly topic: string,
    private readonly records: readonly PartitionedRecord[],
    private readonly timeoutMs: number,
  ) {
    this.results = records.map(() => undefined);
    this.open = records.length;
    this.result = new Promise((resolve) => (this.resolve = resolve));
    this.expiry = setTimeout(() => this.expire(), timeoutMs);
  }

  /** Nobody waits for it any more; what has not been sent yet must not be. */
  get settled(): boolean {
    return this.open === 0;
  }

  *slices(): Generator<Slice> {
    let [entries, bytes]: [Entry[], number] = [[], 0];
    for (const [index, record] of this.records.entries()) {
      const size = sizeOf(record);
      if (entries.length > 0 && !fitsOneRequest(entries.length + 1, bytes + size)) {
        yield { publication: this, entries, bytes };
        [entries, bytes] = [[], 0];
      }
      entries.push({ publication: this, index, record });
      bytes += size;
    }
    if (entries.length > 0) yield { publication: this, entries, bytes };
  }

  /** Its time counts from here, but it does not get more than twice its time in all. */
  sending(): void {
    if (!this.settled && performance.now() - this.since < this.timeoutMs) this.expiry.refresh();
  }

  /** What became of one record. The first word counts. */
  settle(index: number, result: PublishResult): void {
    if (this.results[index] !== undefined) return;
    this.results[index] = result;
    this.open -= 1;
    if (this.open > 0) return;
    clearTimeout(this.expiry);
    this.resolve(this.results as PublishResult[]);
  }

  /** Whether the record is written. */
  confirmed(index: number): boolean {
    const result = this.results[index];
    return result !== undefined && !(result instanceof Error);
  }

  private expire(): void {
    const error = notConfirmed(this.topic, `no confirmation within ${this.timeoutMs} ms`);
    for (const index of this.records.keys()) this.settle(index, error);
  }
}

export const notConfirmed = (topic: string, why: string): NotConfirmedError =>
  new NotConfirmedError(
    `Kafka did not confirm a record for ${topic} (${why}): publish it again; receivers recognise a duplicate by its id`,
  );

export const fitsOneRequest = (records: number, bytes: number): boolean =>
  records <= sliceRecords && bytes <= sliceBytes;

/** Close to what it takes on the wire, and never less. */
export function sizeOf({ key, value, headers }: EventRecord): number {
  const perRecord = 30;
  let size = perRecord + (key?.length ?? 0) + (value?.length ?? 0);
  for (const [name, content] of Object.entries(headers)) {
    const values = Array.isArray(content) ? content : [content ?? ''];
    for (const one of values) size += 6 + Buffer.byteLength(name) + Buffer.byteLength(one);
  }
  return size;
}

export const toKafkaMessage = ({ key, value, headers, partition }: PartitionedRecord): KafkaMessage => ({
  key,
  value,
  headers: headers satisfies RecordHeaders,
  partition,
});

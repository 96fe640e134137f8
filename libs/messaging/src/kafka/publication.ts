import type { Message as KafkaMessage } from 'kafkajs';
import { NotConfirmedError } from '../errors.js';
import type { EventRecord, RecordHeaders } from '../transport/event-record.js';
import type { RecordPosition } from '../transport/event-transport.js';

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
  readonly records: readonly PartitionedRecord[];
  readonly bytes: number;
}

/** One call of `publish`: settles once, when all its slices are confirmed, when one fails, or when its time is up. */
export class Publication {
  readonly result: Promise<RecordPosition[]>;
  private readonly positions: RecordPosition[] = [];
  private resolve!: (positions: RecordPosition[]) => void;
  private rejectResult!: (error: Error) => void;
  private readonly expiry: NodeJS.Timeout;
  private over = false;

  constructor(
    readonly topic: string,
    private readonly records: readonly PartitionedRecord[],
    timeoutMs: number,
  ) {
    this.result = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.rejectResult = reject;
    });
    this.expiry = setTimeout(() => this.reject(`no confirmation within ${timeoutMs} ms`), timeoutMs);
  }

  /** Nobody waits for it any more; what has not been sent yet must not be. */
  get settled(): boolean {
    return this.over;
  }

  *slices(): Generator<Slice> {
    let [records, bytes]: [PartitionedRecord[], number] = [[], 0];
    for (const record of this.records) {
      const size = sizeOf(record);
      if (records.length > 0 && !fitsOneRequest(records.length + 1, bytes + size)) {
        yield { publication: this, records, bytes };
        [records, bytes] = [[], 0];
      }
      records.push(record);
      bytes += size;
    }
    if (records.length > 0) yield { publication: this, records, bytes };
  }

  /** The positions of its next records, in their order. */
  confirm(positions: readonly RecordPosition[]): void {
    this.positions.push(...positions);
    if (this.over || this.positions.length < this.records.length) return;
    this.end();
    this.resolve(this.positions);
  }

  reject(why: string): void {
    if (this.over) return;
    this.end();
    this.rejectResult(
      new NotConfirmedError(
        `Kafka did not confirm ${this.records.length} record(s) for ${this.topic} (${why}): ` +
          'publish them again; receivers recognise a duplicate by its id',
      ),
    );
  }

  private end(): void {
    this.over = true;
    clearTimeout(this.expiry);
  }
}

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

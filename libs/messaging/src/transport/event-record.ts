/** Kafka's header values; a plain client may repeat a header. */
export type RecordHeaders = Record<string, Buffer | string | (Buffer | string)[] | undefined>;

/** One entry of a topic as it lies in the log, before anyone tried to understand it. */
export interface EventRecord {
  readonly key: Buffer | null;
  readonly value: Buffer | null;
  readonly headers: RecordHeaders;
}

/** What a record takes in memory, near enough: headers are small beside the value, or there are few records of that kind. */
export const recordBytes = ({ key, value }: Pick<EventRecord, 'key' | 'value'>): number =>
  (key?.length ?? 0) + (value?.length ?? 0) + 512;

export interface StoredRecord extends EventRecord {
  readonly partition: number;
  readonly offset: bigint;
  /** When the log took it, in milliseconds since 1970. */
  readonly timestamp: number;
}

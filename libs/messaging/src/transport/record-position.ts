/** Where a log keeps a record. */
export interface RecordPosition {
  readonly topic: string;
  readonly partition: number;
  /** Decimal string: Kafka's offsets are 64 bits wide. */
  readonly offset: string;
}

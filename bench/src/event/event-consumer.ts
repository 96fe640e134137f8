export const partitions = 8;
/** Connections to the database. */
export const poolSize = 20;

export interface EventConsumer {
  /** Name of its group on the broker. */
  readonly group: string;
  /** Joins the group; resolves when it has its partitions. */
  attach(): Promise<void>;
  /** Events that are committed in the database. */
  settled(): number;
  /** Commits its offsets and leaves the group. */
  stop(): Promise<void>;
}

export interface Source {
  readonly database: string;
  readonly brokers: string[];
  /** Its topic is `<service>.events`. */
  readonly service: string;
  /** Not used before. */
  readonly consumer: string;
}

/** Commands that the broker may hand out before the first is acknowledged. */
export const prefetch = 100;
/** Connections to the database. */
export const poolSize = 20;

export interface Urls {
  readonly database: string;
  readonly rabbitMq: string;
}

/** One way to consume: resolves once it is attached to the queue. */
export interface CommandConsumer {
  /** Commands that are committed and acknowledged. */
  settled(): number;
  stop(): Promise<void>;
}

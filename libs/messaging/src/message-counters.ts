/** What happened to the deliveries of this process since it started. */
export interface MessageCounters {
  /** Took effect. */
  handled: number;
  /** Had taken effect before: acknowledged without effect. */
  duplicates: number;
  /** Came before its predecessor and was stored. */
  parked: number;
  retried: number;
  discarded: number;
  deadLettered: number;
}

export const newCounters = (): MessageCounters => ({
  handled: 0,
  duplicates: 0,
  parked: 0,
  retried: 0,
  discarded: 0,
  deadLettered: 0,
});

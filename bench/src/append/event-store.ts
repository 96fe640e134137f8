import type { DepositData } from '../account.js';

/** Writers, each with a stream and a connection of its own. */
export const writers = 32;

/** One event store under test. */
export interface EventStore {
  /** Appends in one transaction; `after` is the sequence of the last event so far. */
  append(stream: string, after: number, events: readonly DepositData[]): Promise<void>;
  close(): Promise<void>;
}

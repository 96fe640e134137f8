import type { DataSource } from 'typeorm';
import { runStatement, type Statement } from '../database/transaction.js';

export interface ParkingLimits {
  /** Most messages of one key that wait for a predecessor. Default 1 000. */
  readonly maxParkedPerKey?: number;
  /** Most parked messages of the consumer, over all of its processes. Default 100 000. */
  readonly maxParked?: number;
  /** Until a message that found no room is looked at again. Default 5 000 ms. */
  readonly noRoomRetryMs?: number;
}

/** What one transaction may add to what is parked. */
export interface ParkingBudget {
  /** Messages of one key that may wait, together with those that do already. */
  readonly perKey: number;
  /** Messages of whatever key that may be added. */
  left: number;
}

const count: Statement = {
  name: 'inbox-parked-count',
  text: `SELECT count(*)::int AS count FROM inbox_parked WHERE consumer = $1`,
};

/**
 * How many messages of a consumer are parked, as far as this process knows: what it read last, and what it has changed since.
 * Other processes may have changed more, so the total is passed by as much as they park between two looks.
 */
export class ParkingRoom {
  /** Messages parked. */
  parked = 0;
  /** Messages that found no room since the process started, each time that they came. */
  refused = 0;
  readonly retryMs: number;
  private readonly perKey: number;
  private readonly total: number;

  constructor(
    private readonly dataSource: DataSource,
    private readonly consumer: string,
    limits: ParkingLimits = {},
  ) {
    this.retryMs = limits.noRoomRetryMs ?? 5_000;
    this.perKey = limits.maxParkedPerKey ?? 1_000;
    this.total = limits.maxParked ?? 100_000;
  }

  async look(): Promise<void> {
    const [row] = await runStatement<{ count: number }>(this.dataSource, count, [this.consumer]);
    this.parked = row?.count ?? 0;
  }

  budget(): ParkingBudget {
    return { perKey: this.perKey, left: Math.max(0, this.total - this.parked) };
  }
}

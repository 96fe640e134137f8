import type { DataSource } from 'typeorm';
import { runStatement, type Statement } from '../database/transaction.js';
import { parseRate } from './rate.js';

const selectAll: Statement = { name: 'rate-limits', text: `SELECT type, rate FROM rate_limit` };
const save: Statement = {
  name: 'rate-limit-set',
  text: `INSERT INTO rate_limit (type, rate) VALUES ($1, $2)
         ON CONFLICT (type) DO UPDATE SET rate = excluded.rate, set_at = clock_timestamp()`,
};
const clear: Statement = { name: 'rate-limit-clear', text: `DELETE FROM rate_limit WHERE type = $1` };
const mostCounted = 10_000;
const countWaiting: Statement = {
  name: 'rate-limit-waiting',
  text: `SELECT type, rate, coalesce(waiting, 0)::int AS waiting
           FROM rate_limit
           FULL JOIN (SELECT type, waiting FROM rate_limit_slot slot CROSS JOIN LATERAL (
                        SELECT count(*) AS waiting FROM (
                          SELECT FROM rate_limit_waiting waiting
                           WHERE waiting.type = slot.type AND admitted_at IS NULL LIMIT ${mostCounted}) AS counted) AS counted
                       WHERE waiting > 0) AS waiting USING (type)
          ORDER BY type`,
};

export interface RateLimitStatus {
  /** Type of the command. */
  readonly type: string;
  /** As it was set, or `none`; null when only the code says something. */
  readonly rate: string | null;
  /** Messages that wait for their slot, counted up to 10 000. */
  readonly waiting: number;
}

/** The limits of a service that are stored in its database; they come before those in its code. */
export class RateLimits {
  constructor(private readonly dataSource: DataSource) {}

  /**
   * Every process of the service follows within about a second, and so do the messages that wait. `rate` is `"5/s"`, `"100/h"`
   * and the like, `'none'` for no limit, or null for what the code says.
   * @throws ValidationError that shows what is right
   */
  async set(type: string, rate: string | null): Promise<void> {
    if (rate === null) {
      await runStatement(this.dataSource, clear, [type]);
    } else {
      if (rate !== 'none') parseRate(rate);
      await runStatement(this.dataSource, save, [type, rate]);
    }
  }

  /** What is stored, and what waits. */
  list(): Promise<RateLimitStatus[]> {
    return runStatement(this.dataSource, countWaiting);
  }

  /** The stored limits by type. */
  async stored(): Promise<Map<string, string>> {
    const rows = await runStatement<{ type: string; rate: string }>(this.dataSource, selectAll);
    return new Map(rows.map(({ type, rate }) => [type, rate]));
  }
}

import type { DataSource } from 'typeorm';
import { runStatement, type Statement } from '../database/transaction.js';
import { placeOfKey, type HeldKey } from './outbox-row.js';

export interface OutboxMarks {
  /** Rows. Default 50 000. */
  readonly rows?: number;
  /** Milliseconds that the oldest row has waited. Default 60 000. */
  readonly ageMs?: number;
}

/** What is fewer may be for an address that does not answer: its age says nothing of a backlog. */
const leastAged = 1_000;
/** Below this part of both marks it is over. */
const recovered = 0.3;

const look: Statement = {
  name: 'outbox-backlog',
  text: `SELECT count(*)::int AS rows,
                coalesce(extract(epoch FROM clock_timestamp() - min(written_at)) * 1000, 0)::float8 AS "oldestMs"
           FROM (SELECT written_at FROM outbox WHERE address || ' ' || ordering_key <> ALL($2::text[]) LIMIT $1) AS front`,
};

/** How much waits in the outbox, over all instances, looked at once a second. */
export class OutboxBacklog {
  /** Rows that wait; counted no further than just past the mark. */
  rows = 0;
  /** Milliseconds that the oldest has waited; 0 = none waits. */
  oldestMs = 0;
  /** Past a mark, and not yet below 30 % of both again: no new work should be accepted. */
  high = false;
  private readonly everyMs: number;
  /** What waits behind a dead letter is an operator's business, and no backlog. */
  private readonly held: () => readonly HeldKey[];
  private readonly most: number;
  private readonly oldest: number;
  private timer: NodeJS.Timeout | undefined;
  private looking: Promise<void> | undefined;
  private running = false;

  constructor(
    private readonly dataSource: DataSource,
    { rows = 50_000, ageMs = 60_000 }: OutboxMarks = {},
    { everyMs = 1_000, held = () => [] }: { everyMs?: number; held?: () => readonly HeldKey[] } = {},
  ) {
    this.most = rows;
    this.oldest = ageMs;
    this.everyMs = everyMs;
    this.held = held;
  }

  start(): void {
    this.running = true;
    this.lookSoon(0);
  }

  async stop(): Promise<void> {
    this.running = false;
    clearTimeout(this.timer);
    await this.looking;
  }

  private lookSoon(ms: number): void {
    this.timer = setTimeout(() => {
      this.looking = this.look();
    }, ms).unref();
  }

  private async look(): Promise<void> {
    const asked = performance.now();
    // An outage of the database tells nothing of the outbox: what was known stays.
    const [seen] = await runStatement<{ rows: number; oldestMs: number }>(this.dataSource, look, [
      this.most + 1,
      this.held().map(({ address, key }) => placeOfKey(address, key)),
    ]).catch(() => []);
    if (seen) this.learn(seen);
    // Never more than a twentieth of the time, whatever has to be read.
    if (this.running) this.lookSoon(Math.max(this.everyMs, 20 * (performance.now() - asked)));
  }

  private learn({ rows, oldestMs }: { rows: number; oldestMs: number }): void {
    [this.rows, this.oldestMs] = [rows, oldestMs];
    const age = rows >= Math.min(leastAged, this.most) ? oldestMs : 0;
    const share = Math.max(rows / this.most, age / this.oldest);
    this.high = share > 1 || (this.high && share >= recovered);
  }
}

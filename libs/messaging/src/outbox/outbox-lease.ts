import { randomUUID } from 'node:crypto';
import type { DataSource } from 'typeorm';

/** Only the holder relays, so that the order of a key is kept over all instances of a service. */
export class OutboxLease {
  private readonly holder = randomUUID();
  private validUntil = 0;

  constructor(
    private readonly dataSource: DataSource,
    private readonly durationMs: number,
  ) {}

  /** Takes the lease or renews it; true while this instance is the holder. */
  async hold(): Promise<boolean> {
    const asked = performance.now();
    if (asked < this.validUntil - this.durationMs / 2) return true;
    const rows = await this.dataSource.query<unknown[]>(
      `INSERT INTO outbox_lease (name, holder, expires_at)
       VALUES ('relay', $1, clock_timestamp() + $2 * interval '1 millisecond')
       ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at
         WHERE outbox_lease.holder = excluded.holder OR outbox_lease.expires_at < clock_timestamp()
       RETURNING holder`,
      [this.holder, this.durationMs],
    );
    // Counted from before the question, so that our idea of the lease ends before the database's.
    this.validUntil = rows.length === 1 ? asked + this.durationMs : 0;
    return rows.length === 1;
  }

  /** Still ours by our own clock: asked right before something is published. */
  get valid(): boolean {
    return performance.now() < this.validUntil;
  }

  async release(): Promise<void> {
    this.validUntil = 0;
    await this.dataSource.query(`DELETE FROM outbox_lease WHERE name = 'relay' AND holder = $1`, [this.holder]);
  }
}

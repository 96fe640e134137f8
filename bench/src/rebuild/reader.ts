import type { DataSource } from 'typeorm';
import { setTimeout as sleep } from 'node:timers/promises';

/** Somebody who reads one row after the other. */
export class Reader {
  /** Milliseconds. */
  readonly latencies: number[] = [];
  private stopped = false;

  constructor(
    private readonly dataSource: DataSource,
    private readonly rows: number,
  ) {}

  /** @throws Error when a row is missing */
  async run(): Promise<void> {
    for (let n = 0; !this.stopped; n = (n + 7_919) % this.rows) {
      const start = performance.now();
      const rows = await this.dataSource.query<unknown[]>('SELECT * FROM balance WHERE account_id = $1', [
        String(n + 1),
      ]);
      this.latencies.push(performance.now() - start);
      if (rows.length !== 1) throw new Error(`account ${n + 1} has ${rows.length} rows`);
      await sleep(1);
    }
  }

  stop(): void {
    this.stopped = true;
  }
}

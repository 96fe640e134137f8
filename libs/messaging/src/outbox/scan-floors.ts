import type { DataSource } from 'typeorm';
import { readHorizon } from './outbox-rows.js';

interface Mark {
  readonly positions: ReadonlyMap<number, number>;
  /** Transactions from this number on began after the positions had been handed out; unknown until asked. */
  readonly next?: bigint;
}

/** A look from the very front, should anything have been missed. */
const fullLookMs = 5_000;
/** One that was slow for another reason must not keep back for long what waits for the next. */
const longestRestMs = 10_000;

/**
 * Where the scan of each shard may begin. Deleted rows stay in the index while anybody holds an older snapshot, and scanning
 * them again and again would make the relay slower by the minute. A floor is no high-water mark: it rises over a position only
 * when every transaction that could still commit a lower one has ended, and now and then a look ignores it.
 */
export class ScanFloors {
  private floors = new Map<number, number>();
  private highest = new Map<number, number>();
  private mark: Mark | undefined;
  private steppedAt = performance.now();
  private nextFullLook = 0;
  private cooledAt = 0;

  /** `stepMs`: longer than a server takes from handing out a position to numbering the transaction. Default 1 000. */
  constructor(
    private readonly dataSource: DataSource,
    private readonly stepMs = 1_000,
  ) {}

  of(shard: number): number {
    return this.floors.get(shard) ?? 0;
  }

  /** `wanted`: something may wait below the floors. As a rule never so often that it would take more than a twentieth of the time. */
  fullLookDue(wanted: boolean): boolean {
    const now = performance.now();
    return now >= this.cooledAt && (wanted || now >= this.nextFullLook);
  }

  fullLookTook(ms: number): void {
    const now = performance.now();
    this.cooledAt = now + Math.min(20 * ms, longestRestMs);
    this.nextFullLook = now + fullLookMs;
  }

  deleted(rows: readonly { readonly shard: number; readonly position: string }[]): void {
    for (const { shard, position } of rows) {
      this.highest.set(shard, Math.max(this.highest.get(shard) ?? 0, Number(position)));
    }
  }

  reset(): void {
    this.floors = new Map();
    this.highest = new Map();
    this.mark = undefined;
    this.nextFullLook = 0;
  }

  /** Raises the floors as far as is safe by now; asks the database at most once a second. */
  async raise(): Promise<void> {
    if (performance.now() < this.steppedAt + this.stepMs || this.highest.size === 0) return;
    this.steppedAt = performance.now();
    if (!this.mark) {
      this.mark = { positions: new Map(this.highest) };
      return;
    }
    const mark = this.mark;
    const { oldest, next } = await readHorizon(this.dataSource);
    // Reset meanwhile.
    if (this.mark !== mark) return;
    if (mark.next === undefined) this.mark = { ...mark, next };
    else if (oldest >= mark.next) {
      for (const [shard, position] of mark.positions) this.floors.set(shard, position);
      this.mark = { positions: new Map(this.highest) };
    }
  }
}

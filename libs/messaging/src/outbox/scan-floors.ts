import type { OutboxRows, Place } from './outbox-rows.js';

interface Mark {
  readonly positions: ReadonlyMap<string, number>;
  /** Transactions from this number on began after the positions had been handed out; unknown until asked. */
  readonly next?: bigint;
}

/**
 * Where the scan of each place may begin. Deleted rows stay in the index while anybody holds an older snapshot, and scanning
 * them again and again would make the relay slower by the minute. A floor is no high-water mark: it rises over a position only
 * when every transaction that could still commit a lower one has ended.
 */
export class ScanFloors {
  private floors = new Map<string, number>();
  private highest = new Map<string, number>();
  private mark: Mark | undefined;
  private steppedAt = performance.now();

  /** `stepMs`: longer than a server takes from handing out a position to numbering the transaction. Default 1 000. */
  constructor(
    private readonly rows: Pick<OutboxRows, 'horizon'>,
    private readonly stepMs = 1_000,
  ) {}

  of(place: Place): number {
    return this.floors.get(nameOf(place)) ?? 0;
  }

  deleted(rows: readonly (Place & { readonly position: string })[]): void {
    for (const row of rows) {
      const name = nameOf(row);
      this.highest.set(name, Math.max(this.highest.get(name) ?? 0, Number(row.position)));
    }
  }

  /** Of a place; of all without one. What lies below the floors is wanted again. */
  reset(place?: Place): void {
    for (const positions of [this.floors, this.highest]) {
      if (place) positions.delete(nameOf(place));
      else positions.clear();
    }
    this.mark = undefined;
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
    const { oldest, next } = await this.rows.horizon();
    // Reset meanwhile.
    if (this.mark !== mark) return;
    if (mark.next === undefined) this.mark = { ...mark, next };
    else if (oldest >= mark.next) {
      for (const [place, position] of mark.positions) this.floors.set(place, position);
      this.mark = { positions: new Map(this.highest) };
    }
  }
}

const nameOf = ({ shard, address }: Place): string => `${shard} ${address}`;

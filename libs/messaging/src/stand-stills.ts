/** Something that does not come to its end. */
export interface StandStill {
  /** `topic[partition]@offset`, or a queue and a message of it. */
  readonly place: string;
  /** Milliseconds since it began. */
  readonly forMs: number;
  readonly why: string;
}

/** What has begun and not ended, with its place. */
export class StandStills {
  private readonly open = new Set<{ readonly place: string; readonly why: string; readonly since: number }>();

  /** @returns to be called when it has ended */
  begin(place: string, why: string): () => void {
    const entry = { place, why, since: performance.now() };
    this.open.add(entry);
    return () => this.open.delete(entry);
  }

  /** The longest first. */
  longerThan(ms: number): StandStill[] {
    const now = performance.now();
    const all = [...this.open].map(({ place, why, since }) => ({ place, why, forMs: now - since }));
    return all.filter(({ forMs }) => forMs > ms);
  }
}

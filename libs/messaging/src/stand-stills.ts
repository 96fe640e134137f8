/** Something that does not come to its end. */
export interface StandStill {
  /** `topic[partition]@offset`, or a queue and a message of it. */
  readonly place: string;
  /** Milliseconds since it began. */
  readonly forMs: number;
  readonly why: string;
}

/** So many are named: where more stand still it is one cause. */
const mostNamed = 1_000;

/** What has begun and not ended, with its place. */
export class StandStills {
  private readonly open = new Map<string, { readonly why: string; readonly since: number }>();

  /** Of what has begun before it stays known since when. */
  begin(place: string, why: string): void {
    if (this.open.size >= mostNamed || this.open.has(place)) return;
    this.open.set(place, { why, since: performance.now() });
  }

  end(place: string): void {
    this.open.delete(place);
  }

  /** The longest first. */
  longerThan(ms: number): StandStill[] {
    const now = performance.now();
    const all = [...this.open].map(([place, { why, since }]) => ({ place, why, forMs: now - since }));
    return all.filter(({ forMs }) => forMs > ms);
  }
}

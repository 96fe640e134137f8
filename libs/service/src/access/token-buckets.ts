export interface BucketOptions {
  /** Tokens that come back to each bucket. */
  readonly perSecond: number;
  /** Tokens of a full bucket. */
  readonly burst: number;
  /** Buckets kept; the one not used for longest goes first. */
  readonly most: number;
}

/** A token bucket for each key; one that is not there is full. */
export class TokenBuckets {
  private readonly buckets = new Map<string, { readonly tokens: number; readonly at: number }>();

  constructor(
    private readonly options: BucketOptions,
    /** Milliseconds. */
    private readonly now = () => performance.now(),
  ) {}

  /** Takes a token. @returns seconds until there is one; 0 = it was taken */
  take(key: string): number {
    const { perSecond, burst, most } = this.options;
    const at = this.now();
    const before = this.buckets.get(key) ?? { tokens: burst, at };
    const tokens = Math.min(burst, before.tokens + ((at - before.at) / 1_000) * perSecond);
    const taken = tokens >= 1;
    // Anew, so that the map is in the order of use.
    this.buckets.delete(key);
    this.buckets.set(key, { tokens: taken ? tokens - 1 : tokens, at });
    if (this.buckets.size > most) this.buckets.delete(this.buckets.keys().next().value ?? '');
    return taken ? 0 : (1 - tokens) / perSecond;
  }

  get size(): number {
    return this.buckets.size;
  }
}

interface Call<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/** Makes one call of many: a first one runs at once, and what comes while it is under way shares the next. */
export class Coalesced<Item, Result> {
  private waiting: Call<Item, Result>[] = [];
  private running = false;

  /** `run` answers each item, in order; what it throws is thrown to all of them. At most 500 items at once. */
  constructor(private readonly run: (items: readonly Item[]) => Promise<readonly Result[]>) {}

  call(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ item, resolve, reject });
      if (!this.running) void this.runAll();
    });
  }

  private async runAll(): Promise<void> {
    this.running = true;
    // One turn later, so that what comes together goes together.
    await Promise.resolve();
    for (let batch = this.take(); batch.length > 0; batch = this.take()) await this.settle(batch);
    this.running = false;
  }

  private take(): Call<Item, Result>[] {
    return this.waiting.splice(0, 500);
  }

  private async settle(batch: readonly Call<Item, Result>[]): Promise<void> {
    try {
      const results = await this.run(batch.map(({ item }) => item));
      batch.forEach(({ resolve }, index) => resolve(results[index] as Result));
    } catch (error) {
      batch.forEach(({ reject }) => reject(error));
    }
  }
}

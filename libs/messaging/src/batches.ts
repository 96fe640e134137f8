import { DatabaseBusyError, outageOf } from './database/unavailable.js';

/** Somebody's part of a batch, and how to tell what became of it. */
export interface Call<Item, Result> {
  readonly item: Item;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Runs a batch as one. If that fails it is halved, in order, until what is to blame is alone: a failure is only ever its own.
 * A database that is away has nothing to do with any of them, so then all are told at once.
 */
export async function settleInHalves<Item, Result>(
  batch: readonly Call<Item, Result>[],
  run: (items: readonly Item[]) => Promise<readonly Result[]>,
): Promise<void> {
  try {
    const results = await run(batch.map(({ item }) => item));
    batch.forEach(({ resolve }, index) => resolve(results[index] as Result));
  } catch (error) {
    const outage = outageOf(error);
    if (batch.length === 1 || (outage && !(outage instanceof DatabaseBusyError))) {
      batch.forEach(({ reject }) => reject(error));
    } else {
      const middle = Math.ceil(batch.length / 2);
      await settleInHalves(batch.slice(0, middle), run);
      await settleInHalves(batch.slice(middle), run);
    }
  }
}

/** Makes one call of many: a first one runs at once, and what comes while it is under way shares the next. */
export class Batches<Item, Result> {
  private waiting: Call<Item, Result>[] = [];
  private running = false;

  /** `run` does all of it or throws, and answers each item, in order. At most `most` items at once, by default 500. */
  constructor(
    private readonly run: (items: readonly Item[]) => Promise<readonly Result[]>,
    private readonly most = 500,
  ) {}

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
    for (let batch = this.take(); batch.length > 0; batch = this.take()) await settleInHalves(batch, this.run);
    this.running = false;
  }

  private take(): Call<Item, Result>[] {
    return this.waiting.splice(0, this.most);
  }
}

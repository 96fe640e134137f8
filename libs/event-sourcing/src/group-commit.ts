import { DatabaseUnavailableError } from '@starter/messaging';

export interface GroupCommitOptions {
  /** Most pieces of work in one transaction. Default 100. */
  readonly maxBatch?: number;
  /** Transactions at the same time: while one waits for its commit the next is prepared. Default 2. */
  readonly lanes?: number;
}

interface Pending<Work, Result> {
  readonly work: Work;
  readonly resolve: (result: Result) => void;
  readonly reject: (error: unknown) => void;
}

/**
 * Lets work that is there at the same time share a transaction. An idle one commits at once, alone; the batch grows only
 * while earlier transactions are under way, so nobody waits for company. A batch that fails is taken apart: each piece is
 * committed alone and has its own result.
 */
export class GroupCommit<Work, Result> {
  private pending: Pending<Work, Result>[] = [];
  private running = 0;
  private readonly maxBatch: number;
  private readonly lanes: number;

  constructor(
    /** Commits all of it or throws; one result per piece, in order. */
    private readonly commit: (batch: readonly Work[]) => Promise<readonly Result[]>,
    options: GroupCommitOptions = {},
  ) {
    this.maxBatch = options.maxBatch ?? 100;
    this.lanes = options.lanes ?? 2;
  }

  submit(work: Work): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.pending.push({ work, resolve, reject });
      if (this.running < this.lanes) void this.run();
    });
  }

  private async run(): Promise<void> {
    this.running += 1;
    // One turn later, so that what arrives together travels together.
    await Promise.resolve();
    while (this.pending.length > 0) {
      const batch = this.pending.slice(0, this.maxBatch);
      this.pending = this.pending.slice(this.maxBatch);
      await this.settle(batch);
    }
    this.running -= 1;
  }

  private async settle(batch: readonly Pending<Work, Result>[]): Promise<void> {
    try {
      const results = await this.commit(batch.map(({ work }) => work));
      batch.forEach(({ resolve }, index) => resolve(results[index] as Result));
    } catch (error) {
      if (batch.length === 1 || error instanceof DatabaseUnavailableError) {
        batch.forEach(({ reject }) => reject(error));
      } else {
        for (const one of batch) await this.settle([one]);
      }
    }
  }
}

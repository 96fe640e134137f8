import { settleInHalves, TransientError, type BatchCall } from '@starter/messaging';

export interface MailboxOptions {
  /** Most commands in one transaction. Default 100. */
  readonly maxBatch?: number;
  /**
   * Transactions at the same time. Default 1: what comes meanwhile makes the next batch larger, and that saves more than a
   * second transaction gains, which also settles messages out of their order.
   */
  readonly lanes?: number;
  /** Most commands that wait for one actor. Default 1 000. */
  readonly mailboxSize?: number;
}

/** Too many commands wait for one actor: the message goes back to its queue. */
export class MailboxFullError extends TransientError {}

type Mail<Work, Result> = BatchCall<Work, Result>;

/**
 * One mailbox per actor: an actor has its turn in one transaction at a time and in the order of its mail, different actors
 * side by side. Work that is there at the same time shares a transaction. An idle one commits at once, alone; the batch
 * grows only while earlier transactions are under way, so nobody waits for company.
 */
export class Mailboxes<Work extends { readonly stream: string }, Result> {
  private readonly boxes = new Map<string, Mail<Work, Result>[]>();
  /** Actors with mail that are in no transaction, the longest waiting first. */
  private readonly ready = new Set<string>();
  private readonly busy = new Set<string>();
  private lanesInUse = 0;
  private readonly maxBatch: number;
  private readonly lanes: number;
  private readonly mailboxSize: number;
  /** Commands that wait for their turn. */
  depth = 0;

  constructor(
    /** Commits all of it or throws; one result per piece, in order. */
    private readonly commit: (batch: readonly Work[]) => Promise<readonly Result[]>,
    options: MailboxOptions = {},
  ) {
    this.maxBatch = options.maxBatch ?? 100;
    this.lanes = options.lanes ?? 1;
    this.mailboxSize = options.mailboxSize ?? 1_000;
  }

  /** @throws MailboxFullError */
  submit(work: Work): Promise<Result> {
    return new Promise((resolve, reject) => {
      const { stream } = work;
      const box = this.boxes.get(stream) ?? [];
      if (box.length >= this.mailboxSize) {
        const what = `${box.length} commands wait for ${stream} already`;
        return reject(new MailboxFullError(`${what}; send fewer at a time or spread them over more actors`));
      }
      box.push({ item: work, resolve, reject });
      this.boxes.set(stream, box);
      this.depth += 1;
      if (!this.busy.has(stream)) this.ready.add(stream);
      if (this.lanesInUse < this.lanes) void this.runLane();
    });
  }

  private async runLane(): Promise<void> {
    this.lanesInUse += 1;
    // One turn later, so that what arrives together travels together.
    await Promise.resolve();
    for (let batch = this.take(); batch.length > 0; batch = this.take()) {
      await settleInHalves(batch, this.commit);
      new Set(batch.map(({ item }) => item.stream)).forEach((stream) => this.free(stream));
    }
    this.lanesInUse -= 1;
  }

  private take(): Mail<Work, Result>[] {
    const batch: Mail<Work, Result>[] = [];
    for (const stream of this.ready) {
      if (batch.length >= this.maxBatch) break;
      batch.push(...(this.boxes.get(stream) ?? []).splice(0, this.maxBatch - batch.length));
      this.ready.delete(stream);
      this.busy.add(stream);
    }
    this.depth -= batch.length;
    return batch;
  }

  private free(stream: string): void {
    this.busy.delete(stream);
    if (this.boxes.get(stream)?.length) this.ready.add(stream);
    else this.boxes.delete(stream);
  }
}

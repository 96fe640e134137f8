import { inTransaction, KeyedQueue, type Messaging } from '@starter/messaging';
import { reject, streamId, type Actor, type RecordedEvent } from './actor.js';
import { ActorCache, type Loaded } from './actor-cache.js';
import { CommandBatch, RefusedByProjectionError, type Committed, type Execution, type Work } from './command-batch.js';
import { ConcurrencyError } from './event-store.js';
import { GroupCommit, type GroupCommitOptions } from './group-commit.js';
import type { Projection } from './projection.js';

export type { Execution } from './command-batch.js';

export type Executed<State> =
  | { readonly kind: 'applied'; readonly events: readonly RecordedEvent[]; readonly state: State }
  | { readonly kind: 'rejected'; readonly reason: string }
  | { readonly kind: 'duplicate' };

export interface ActorRuntimeOptions extends GroupCommitOptions {
  /** Actors kept in memory. Default 10 000. */
  readonly cachedActors?: number;
  /** Attempts to win against other processes on one actor before the message goes back to its queue. Default 5. */
  readonly conflictAttempts?: number;
}

/**
 * Runs commands against actors: one at a time per actor, side by side over actors. What is there at the same time shares a
 * transaction; for each command that holds the inbox row, the events, the outbox rows and the inline projections.
 */
export class ActorRuntime {
  private readonly mailboxes = new KeyedQueue();
  private readonly cache: ActorCache;
  private readonly commits: GroupCommit<Work, Committed>;
  private readonly conflictAttempts: number;
  private readonly projections: Projection[] = [];
  private readonly batch: CommandBatch;
  /** Appends that lost against another process and were decided again. */
  conflicts = 0;

  constructor(
    private readonly messaging: Messaging,
    options: ActorRuntimeOptions = {},
  ) {
    this.cache = new ActorCache(options.cachedActors ?? 10_000);
    this.conflictAttempts = options.conflictAttempts ?? 5;
    this.batch = new CommandBatch(messaging, this.cache, this.projections);
    this.commits = new GroupCommit((works) => this.commit(works), options);
  }

  project(projection: Projection): void {
    this.projections.push(projection);
  }

  execute<State>(actor: Actor<State>, execution: Execution): Promise<Executed<State>> {
    const work: Work = { actor: actor, stream: streamId(actor, execution.id), execution };
    return this.mailboxes.run(work.stream, () => this.executeUntilFree(work)) as Promise<Executed<State>>;
  }

  /** The state as of now; the initial state (sequence 0) when nothing has happened yet. */
  async read<State>(actor: Actor<State>, id: string): Promise<Loaded<State>> {
    const subject = { actor: actor as Actor<unknown>, stream: streamId(actor, id) };
    const states = await inTransaction(this.messaging.dataSource, (tx) => this.batch.load(tx, [subject]));
    return (states.get(subject.stream) ?? { state: actor.initialState, sequence: 0 }) as Loaded<State>;
  }

  private async executeUntilFree(work: Work): Promise<Executed<unknown>> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        const committed = await this.commits.submit(work);
        if (committed.kind !== 'applied') return committed;
        return { kind: 'applied', events: committed.events, state: committed.loaded.state };
      } catch (error) {
        // Whatever failed, the cached state is not to be trusted over the log.
        this.cache.drop(work.stream);
        if (!(error instanceof ConcurrencyError) || attempt >= this.conflictAttempts) throw error;
        this.conflicts += 1;
      }
    }
  }

  private async commit(works: readonly Work[]): Promise<Committed[]> {
    const { dataSource } = this.messaging;
    let committed: Committed[];
    try {
      committed = await inTransaction(dataSource, (tx) => this.batch.execute(tx, works));
    } catch (error) {
      // In company the batch is taken apart first, to find out whose refusal it is.
      if (!(error instanceof RefusedByProjectionError) || works.length > 1) throw error;
      committed = await inTransaction(dataSource, (tx) => this.batch.execute(tx, works, reject(error.message)));
    }
    works.forEach((work, index) => this.remember(work, committed[index]));
    return committed;
  }

  /** Only a committed state may be remembered. */
  private remember({ stream, execution }: Work, committed: Committed | undefined): void {
    const { counters } = this.messaging;
    if (committed?.kind === 'applied') {
      this.cache.set(stream, committed.loaded);
      if (execution.once) counters.handled += 1;
    }
    if (committed?.kind === 'rejected') counters.discarded += 1;
    if (committed?.kind === 'duplicate') counters.duplicates += 1;
  }
}

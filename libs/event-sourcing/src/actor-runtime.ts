import { doneAs, inTransaction, type Messaging, type Outcome, type Transaction } from '@starter/messaging';
import { streamId, type Actor, type RecordedEvent } from './actor.js';
import { ActorCache, type ActorCacheOptions, type Loaded } from './actor-cache.js';
import { CommandBatch, RefusedByProjectionError } from './command-batch.js';
import { ConcurrencyError } from './event-store.js';
import type { Execution, Verdict, Work } from './execution.js';
import { loadActors } from './load-actors.js';
import { Mailboxes, type MailboxOptions } from './mailboxes.js';
import type { Projection } from './projection.js';
import { Snapshots } from './snapshots.js';

export type Executed<State> =
  | { readonly kind: 'applied'; readonly events: readonly RecordedEvent[]; readonly state: State }
  | { readonly kind: 'rejected'; readonly reason: string }
  | { readonly kind: 'duplicate' };

/** What a consumer answers when it has executed a delivery's command: all of it is stored, so it is done, one way or another. */
export const outcomeOfExecution = ({ kind }: Executed<unknown>): Outcome =>
  doneAs[({ applied: 'handled', rejected: 'discarded', duplicate: 'duplicates' } as const)[kind]];

export interface ActorRuntimeOptions extends MailboxOptions, ActorCacheOptions {
  /** A decision that takes longer is cut off, in milliseconds. Default 2 000. */
  readonly decideTimeoutMs?: number;
}

/** What earlier attempts at a batch have found out. */
interface Attempt {
  /** Why a projection refuses its only command. */
  readonly refusal?: string;
  /** The actors of which one had moved on are read from the log. */
  readonly distrusting?: true;
}

/**
 * Runs commands against actors: one at a time per actor, side by side over actors. What is there at the same time shares a
 * transaction; for each command that holds the inbox row, the events, the outbox rows and the inline projections.
 */
export class ActorRuntime {
  private readonly cache: ActorCache;
  private readonly snapshots: Snapshots;
  private readonly mailboxes: Mailboxes<Work, Verdict>;
  private readonly projections: Projection[] = [];
  private readonly batch: CommandBatch;
  private transactions = 0;
  private conflicts = 0;

  constructor(
    private readonly messaging: Messaging,
    options: ActorRuntimeOptions = {},
  ) {
    const { projections } = this;
    const cache = (this.cache = new ActorCache(options));
    const snapshots = (this.snapshots = new Snapshots(messaging.dataSource, messaging.logger));
    const { decideTimeoutMs = 2_000 } = options;
    this.batch = new CommandBatch({ messaging, cache, snapshots, projections, decideTimeoutMs });
    this.mailboxes = new Mailboxes((works) => this.commit(works), options);
  }

  project(projection: Projection): void {
    this.projections.push(projection);
  }

  /**
   * @throws MailboxFullError, TimeoutError, ConcurrencyError (these may be tried again), CorruptStreamError, and whatever the
   * decider throws; nothing was stored then
   */
  async execute<State>(actor: Actor<State>, execution: Execution): Promise<Executed<State>> {
    const work: Work = { actor, stream: streamId(actor, execution.id), execution };
    const verdict = await this.mailboxes.submit(work);
    switch (verdict.kind) {
      case 'applied':
        return { kind: 'applied', events: verdict.events, state: verdict.loaded.state as State };
      case 'rejected':
        return { kind: 'rejected', reason: verdict.reason };
      case 'duplicate':
        return { kind: 'duplicate' };
      case 'failed':
        throw verdict.error;
    }
  }

  /** The state as of now; the initial state (sequence 0) when nothing has happened yet. */
  async read<State>(actor: Actor<State>, id: string): Promise<Pick<Loaded<State>, 'state' | 'sequence'>> {
    const stream = streamId(actor, id);
    const states = await inTransaction(this.messaging.dataSource, (tx) =>
      loadActors(tx, new Map([[stream, actor]]), (key) => this.cache.get(key), this.snapshots),
    );
    const loaded = states.get(stream) as Loaded<State>;
    // A command may have been faster; what is over nobody needs any more.
    if (loaded.sequence > (this.cache.get(stream)?.sequence ?? 0)) this.keep(actor, stream, loaded);
    return { state: loaded.state, sequence: loaded.sequence };
  }

  /** What this process has done since it started, and what it has in hand. */
  get metrics() {
    return {
      /** Actors in memory. */
      active: this.cache.size,
      passivated: this.cache.passivated,
      /** Commands that wait for their turn. */
      mailboxDepth: this.mailboxes.depth,
      /** Batches that were decided again because another process had appended. */
      conflicts: this.conflicts,
      /** Actors that were read from the log before a decision: strangers, and those whose state was in doubt. */
      reloads: this.batch.reloads,
      transactions: this.transactions,
      snapshots: this.snapshots.taken,
    };
  }

  /** Call it when nothing is being executed any more. */
  async close(): Promise<void> {
    await this.snapshots.settled();
    this.cache.close();
  }

  private async commit(works: readonly Work[]): Promise<Verdict[]> {
    try {
      const verdicts = await this.inOneTransaction(works);
      verdicts.forEach((verdict) => this.remember(verdict));
      return verdicts;
    } catch (error) {
      // Whatever failed, the cached states are not to be trusted over the log.
      works.forEach(({ stream }) => this.cache.drop(stream));
      throw error;
    }
  }

  private async inOneTransaction(works: readonly Work[], attempt: Attempt = {}): Promise<Verdict[]> {
    this.transactions += 1;
    try {
      // A command whose time is over fails the batch, which is taken apart then: the others commit.
      const fence = { throwIfOver: () => works.forEach(({ execution }) => execution.fence?.throwIfOver()) };
      const execute = (tx: Transaction) => this.batch.execute(tx, works, attempt.refusal);
      return await this.messaging.watchdog.during('actors', () =>
        inTransaction(this.messaging.dataSource, execute, fence),
      );
    } catch (error) {
      if (error instanceof ConcurrencyError && !attempt.distrusting) {
        this.conflicts += 1;
        this.batch.distrust(error.streams);
        return this.inOneTransaction(works, { ...attempt, distrusting: true });
      }
      // In company the batch is taken apart first, to find out whose refusal it is.
      if (error instanceof RefusedByProjectionError && works.length === 1) {
        return this.inOneTransaction(works, { ...attempt, refusal: error.message });
      }
      throw error;
    }
  }

  /** Only what is committed may be remembered. */
  private remember(verdict: Verdict): void {
    if (verdict.kind !== 'applied') return;
    this.keep(verdict.work.actor, verdict.work.stream, verdict.loaded);
  }

  private keep(actor: Actor<unknown>, stream: string, loaded: Loaded<unknown>): void {
    const taken = this.snapshots.offer(actor, stream, loaded);
    if (actor.isOver?.(loaded.state)) this.cache.drop(stream);
    // How long it took to load says nothing about the next time any more.
    else this.cache.set(actor, stream, taken ? { ...loaded, snapshotAt: loaded.sequence, loadMs: 0 } : loaded);
  }
}

import {
  admitOnce,
  recordDiscarded,
  together,
  type Discarded,
  type Messaging,
  type Statement,
  type Transaction,
} from '@starter/messaging';
import type { RecordedEvent } from './actor.js';
import type { ActorCache, Loaded } from './actor-cache.js';
import { decideTurn } from './decide-turn.js';
import { appendEvents, type NewEvent } from './event-store.js';
import type { Verdict, Work } from './execution.js';
import { loadActors } from './load-actors.js';
import { outgoing } from './outgoing.js';
import { projectAll, type Projection, type StateChange } from './projection.js';
import { sealCommands } from './seal-commands.js';
import type { Snapshots } from './snapshots.js';
import { withinTime } from './time-limit.js';

/** An inline projection refuses one of the commands; everything that was written for it has to be rolled back. */
export class RefusedByProjectionError extends Error {
  override readonly name = 'RefusedByProjectionError';
}

export interface BatchContext {
  readonly messaging: Messaging;
  readonly cache: ActorCache;
  readonly snapshots: Snapshots;
  readonly projections: readonly Projection[];
  /** Most time that the deciders of a batch may take, in milliseconds. */
  readonly decideTimeoutMs: number;
}

// Per actor one transaction at a time over all processes, first come, first served; taken in one order, so that nobody waits
// in a circle. Without it the processes would race for a busy actor, and all but one would decide in vain. A server that has
// no room for so many locks fails the batch, and its halves need fewer.
export const takeTurns: Statement = {
  name: 'actor-turns',
  text: `SELECT pg_advisory_xact_lock(turn)
           FROM (SELECT hashtextextended(stream, 0) AS turn FROM unnest($1::text[]) AS stream ORDER BY 1) AS turns`,
};
const forget: Statement = {
  name: 'inbox-forget',
  text: `DELETE FROM inbox USING unnest($1::text[], $2::text[]) AS gone (consumer, message_id)
          WHERE inbox.consumer = gone.consumer AND inbox.message_id = gone.message_id`,
};

/** More actors than that are not contended for at the same time; whoever is forgotten is found out anew. */
const mostDistrusted = 10_000;

/** The commands of a batch by stream. */
type Turns = ReadonlyMap<string, readonly Work[]>;

/** Commands of many actors in one transaction: a fixed number of statements, however many commands. */
export class CommandBatch {
  /** Actors whose cached state may lag behind the log, because other processes append to them as well. */
  private readonly distrusted = new Set<string>();
  /** Actors that were read from the log before a decision. */
  reloads = 0;

  constructor(private readonly context: BatchContext) {}

  /** Their next decisions are taken on what the log says, until the cache turns out to be right again. */
  distrust(streams: readonly string[]): void {
    if (this.distrusted.size > mostDistrusted) this.distrusted.clear();
    for (const stream of streams) this.distrusted.add(stream);
  }

  /**
   * @param refusal what a projection has said to the only command before; it is recorded instead of decided
   * @throws RefusedByProjectionError
   * @throws ConcurrencyError when an actor has moved on that was not distrusted; nothing can be committed then
   */
  async execute(tx: Transaction, batch: readonly Work[], refusal?: string): Promise<Verdict[]> {
    const { messaging, projections } = this.context;
    // 1. The actors' turns, and which of the messages have taken effect before.
    const streams = [...new Set(batch.map(({ stream }) => stream))];
    const [, fresh] = await Promise.all([tx.query(takeTurns, [streams]), this.admit(tx, batch)]);
    // 2. Nobody from here on sees personal data in plain text.
    const { works, refused, sealedAs } = await sealCommands(tx, fresh, messaging.sealing);
    // 3. The actors as they are now, and what they decide.
    const turns = Map.groupBy(works, ({ stream }) => stream);
    const decided = refusal === undefined ? await this.decideAll(tx, turns) : refuseAll(turns, refusal);
    const verdicts = [...[...decided.values()].flat(), ...refused];
    const leaving = messaging.outbox.prepare(verdicts.flatMap((verdict) => outgoing(verdict, messaging)));
    const written = [
      // 4. Store the events, expecting that nobody else has appended since.
      appendEvents(tx, verdicts.flatMap(newEvents)),
      // 5. What fails leaves no trace of having been here; the others go on.
      this.letGo(tx, verdicts),
      // 6. What goes out: the events, the commands that they set off, the replies.
      messaging.outbox.write(tx, leaving),
      // 7. What will never take effect is kept with its reason.
      recordDiscarded(tx, messaging.commands.queue, 'command', verdicts.flatMap(refusals)),
      // 8. What the actors are now.
      ...this.projectStates(tx, verdicts),
    ];
    await (projections.length === 0 ? tx.commitBehind(...written) : together(...written));
    // 9. Rows that must never lag behind the events.
    const refusing = await projectAll(tx, projections, eventsOfStreams(verdicts));
    if (refusing) throw new RefusedByProjectionError(refusing.rejected);
    const byWork = new Map(verdicts.map((verdict) => [verdict.work, verdict]));
    return batch.map((work) => byWork.get(sealedAs.get(work) ?? work) ?? { work, kind: 'duplicate' });
  }

  private projectStates(tx: Transaction, verdicts: readonly Verdict[]): Promise<void>[] {
    return this.context.projections.flatMap(({ states }) => {
      const changes = states ? changesOf(states.actor.name, verdicts) : [];
      return changes.length > 0 ? [states?.write(tx, changes as StateChange<never>[]) as Promise<void>] : [];
    });
  }

  private async admit(tx: Transaction, batch: readonly Work[]): Promise<Work[]> {
    const guarded = batch.filter(({ execution }) => execution.once);
    const admitted = await admitOnce(
      tx,
      guarded.flatMap(({ execution }) => execution.once ?? []),
    );
    const duplicates = new Set(guarded.filter((_, index) => !admitted[index]));
    return batch.filter((work) => !duplicates.has(work));
  }

  /**
   * A cached state may lag behind what another process stored. An append finds that out by itself; decisions that append
   * nothing would not, so they are taken again on what the log says.
   */
  private async decideAll(tx: Transaction, turns: Turns): Promise<Map<string, Verdict[]>> {
    const { cache } = this.context;
    const decided = this.decideTurns(turns, (stream) => (this.distrusted.has(stream) ? undefined : cache.get(stream)));
    const unsure = new Map([...turns].filter(([stream]) => !decided.get(stream)?.some(appends)));
    for (const [stream, verdicts] of await this.decideFresh(tx, unsure)) decided.set(stream, verdicts);
    return decided;
  }

  private async decideFresh(tx: Transaction, turns: Turns): Promise<Map<string, Verdict[]>> {
    if (turns.size === 0) return new Map();
    this.reloads += turns.size;
    const { cache, snapshots } = this.context;
    const actors = new Map([...turns].flatMap(([stream, [first]]) => (first ? [[stream, first.actor]] : [])));
    const states = await loadActors(tx, actors, (stream) => cache.get(stream), snapshots);
    for (const [stream, { sequence }] of states) {
      if (cache.get(stream)?.sequence === sequence) this.distrusted.delete(stream);
    }
    return this.decideTurns(turns, (stream) => states.get(stream));
  }

  /** The decisions by stream; none where the state is not known. */
  private decideTurns(turns: Turns, stateOf: (stream: string) => Loaded<unknown> | undefined): Map<string, Verdict[]> {
    const { decideTimeoutMs, messaging } = this.context;
    const known = [...turns].flatMap(([stream, works]) => {
      const before = stateOf(stream);
      return before ? [{ stream, works, before }] : [];
    });
    if (known.length === 0) return new Map();
    const names = [...new Set([...turns.values()].flatMap(([first]) => first?.actor.name ?? []))];
    return withinTime(decideTimeoutMs, `a decision of actor ${names.join(' or ')}`, () => {
      return new Map(known.map(({ stream, works, before }) => [stream, decideTurn(works, before, messaging.service)]));
    });
  }

  private async letGo(tx: Transaction, verdicts: readonly Verdict[]): Promise<void> {
    const gone = verdicts.flatMap(({ kind, work }) => (kind === 'failed' ? (work.execution.once ?? []) : []));
    if (gone.length === 0) return;
    await tx.query(forget, [gone.map(({ consumer }) => consumer), gone.map(({ messageId }) => messageId)]);
  }
}

const refuseAll = (turns: Turns, reason: string): Map<string, Verdict[]> =>
  new Map([...turns].map(([stream, works]) => [stream, works.map((work) => ({ work, kind: 'rejected', reason }))]));

const appends = (verdict: Verdict): boolean => verdict.kind === 'applied' && verdict.events.length > 0;

const newEvents = (verdict: Verdict): NewEvent[] => {
  if (verdict.kind !== 'applied') return [];
  const command = verdict.work.execution.command.message.type;
  return verdict.messages.map((message) => ({ message, command }));
};

/** Of the actors of this kind that have moved, each once. */
function changesOf(actor: string, verdicts: readonly Verdict[]): StateChange<unknown>[] {
  const changes = new Map<string, StateChange<unknown>>();
  for (const verdict of verdicts) {
    if (verdict.kind !== 'applied' || verdict.work.actor.name !== actor || verdict.events.length === 0) continue;
    const { stream } = verdict.work;
    const before = changes.get(stream)?.before ?? verdict.before;
    changes.set(stream, { stream, before, state: verdict.loaded.state });
  }
  return [...changes.values()];
}

const refusals = (verdict: Verdict): Discarded[] =>
  verdict.kind === 'rejected' ? [{ message: verdict.work.execution.command.message, reason: verdict.reason }] : [];

/** What was stored in each stream, in order. */
function eventsOfStreams(verdicts: readonly Verdict[]): RecordedEvent[][] {
  const byStream = Map.groupBy(verdicts, ({ work }) => work.stream);
  return [...byStream.values()].map((turn) =>
    turn.flatMap((verdict) => (verdict.kind === 'applied' ? verdict.events : [])),
  );
}

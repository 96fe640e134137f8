import {
  admitOnce,
  causedBy,
  createMessage,
  decode,
  recordDiscarded,
  replyFor,
  toMessage,
  type Draft,
  type InboxKey,
  type Message,
  type Messaging,
  type OutboxEntry,
  type Transaction,
} from '@starter/messaging';
import {
  isRejection,
  reject,
  type Actor,
  type Command,
  type Decision,
  type RecordedEvent,
  type Rejection,
} from './actor.js';
import type { ActorCache, Loaded } from './actor-cache.js';
import { decide, evolve } from './decide.js';
import { appendEvents, loadEvents } from './event-store.js';
import { projectAll, type Projection } from './projection.js';

export interface Execution {
  /** Id of the actor, without the actor's name. */
  readonly id: string;
  readonly command: Command;
  /** The message that led here takes effect once; without it the command takes effect each time it is executed. */
  readonly once?: InboxKey;
  /** Whom to tell what came of it, when that one asked for a reply; none = nobody is told. */
  readonly answers?: {
    readonly request: Message;
    /** The events that are stored say that the request has failed, for this reason. */
    readonly failure?: string;
  };
}

export interface Work {
  readonly actor: Actor<unknown>;
  readonly stream: string;
  readonly execution: Execution;
}

/** What one transaction did for one command. `loaded` is the actor's state afterwards, to be remembered once committed. */
export type Committed =
  | { readonly kind: 'applied'; readonly events: readonly RecordedEvent[]; readonly loaded: Loaded<unknown> }
  | { readonly kind: 'rejected'; readonly reason: string }
  | { readonly kind: 'duplicate' };

interface Decided {
  readonly work: Work;
  readonly before: Loaded<unknown>;
  readonly decision: Decision;
}

interface Applied {
  readonly work: Work;
  readonly before: Loaded<unknown>;
  readonly messages: readonly Message[];
  readonly events: readonly RecordedEvent[];
}

/** An inline projection refuses one of the commands; everything that was written for it has to be rolled back. */
export class RefusedByProjectionError extends Error {
  override readonly name = 'RefusedByProjectionError';
}

/** Commands of different actors in one transaction: a fixed number of statements, however many commands. */
export class CommandBatch {
  constructor(
    private readonly messaging: Messaging,
    private readonly cache: ActorCache,
    private readonly projections: readonly Projection[],
  ) {}

  /**
   * @param refusal what a projection has said to the one command before; it is recorded instead of decided
   * @throws ConcurrencyError when another process has appended to one of the actors
   * @throws RefusedByProjectionError
   */
  async execute(tx: Transaction, batch: readonly Work[], refusal?: Rejection): Promise<Committed[]> {
    // 1. Which of the messages have taken effect before?
    const fresh = await this.admit(tx, batch);
    // 2. The actors as they are now, and what they decide.
    const decided = refusal ? fresh.map((work) => refused(work, refusal)) : await this.decideAll(tx, fresh);
    const applied = decided.flatMap((one) => this.apply(one));
    // 3. Store the events, expecting that nobody else has appended since.
    const events = applied.flatMap(({ work, messages }) =>
      messages.map((message) => ({ message, command: work.execution.command.message.type })),
    );
    await appendEvents(tx, events);
    // 4. What goes out: the events, the commands that they set off, the replies.
    const refusals = decided.flatMap(({ work, decision }) => (isRejection(decision) ? [{ work, decision }] : []));
    await this.messaging.outbox.add(tx, [
      ...applied.flatMap((one) => this.outgoing(one)),
      ...refusals.flatMap(({ work, decision }) => this.reply(work, { failure: decision.rejected })),
    ]);
    // 5. What will never take effect is kept with its reason.
    const discarded = refusals.map(({ work, decision }) => ({
      message: work.execution.command.message,
      reason: decision.rejected,
    }));
    await recordDiscarded(tx, this.messaging.commands.queue, discarded);
    // 6. Rows that must never lag behind the events.
    const refusing = await projectAll(
      tx,
      this.projections,
      applied.map((one) => one.events),
    );
    if (refusing) throw new RefusedByProjectionError(refusing.rejected);
    return this.results(batch, decided, applied);
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
   * A cached state may lag behind what another process stored. An append finds that out by itself; a decision that
   * appends nothing would not, so it is taken again on what the log says.
   */
  private async decideAll(tx: Transaction, works: readonly Work[]): Promise<Decided[]> {
    const decided = works.map((work) => {
      const cached = this.cache.get<unknown>(work.stream);
      return cached && decideOn(work, cached);
    });
    const unsure = works.filter((_, index) => !appends(decided[index]));
    const states = await this.load(tx, unsure);
    return works.map((work, index) => {
      const current = states.get(work.stream);
      return decided[index] && !current ? decided[index] : decideOn(work, current ?? initial(work.actor));
    });
  }

  /** The states of these actors by stream: what is cached, brought up to what the log says. */
  async load(
    tx: Transaction,
    actors: readonly Pick<Work, 'actor' | 'stream'>[],
  ): Promise<Map<string, Loaded<unknown>>> {
    const from = new Map(actors.map(({ actor, stream }) => [stream, this.cache.get(stream) ?? initial(actor)]));
    const events = await loadEvents(
      tx,
      [...from].map(([stream, { sequence }]) => ({ stream, sequence })),
    );
    return new Map(
      actors.map(({ actor, stream }) => {
        const before = from.get(stream) ?? initial(actor);
        const later = events.get(stream) ?? [];
        const state = later.reduce((current, event) => {
          const definition = actor.evolve.get(event.type)?.definition;
          return evolve(actor, current, definition ? { ...event, data: decode(definition, event) } : event);
        }, before.state);
        return [stream, { state, sequence: later.at(-1)?.sequence ?? before.sequence }];
      }),
    );
  }

  private apply({ work, before, decision }: Decided): Applied[] {
    if (isRejection(decision)) return [];
    const { service: source } = this.messaging;
    const cause = causedBy(work.execution.command.message);
    const messages = decision.map((draft, index) =>
      toMessage(draft, { source, subject: work.stream, sequence: before.sequence + index + 1, ...cause }),
    );
    return [{ work, before, messages, events: messages.map((message, index) => recorded(message, decision[index])) }];
  }

  private outgoing({ work, messages, events }: Applied): OutboxEntry[] {
    const { service: source, topic } = this.messaging;
    const commands = messages.flatMap((message, index) => {
      const event = events[index];
      const drafts = event && work.actor.outgoing ? work.actor.outgoing(event) : [];
      return drafts.map((draft) => createMessage({ source, ...causedBy(message), ...draft }));
    });
    return [
      ...messages.map((message): OutboxEntry => ({ channel: 'event', address: topic, message })),
      ...commands.map((message): OutboxEntry => ({ channel: 'command', address: message.type, message })),
      ...this.reply(work, { result: messages.at(-1)?.data ?? null }),
    ];
  }

  private reply({ execution: { answers } }: Work, answer: { result: unknown } | { failure: string }): OutboxEntry[] {
    if (!answers?.request.replyTo) return [];
    const { request, failure } = answers;
    const message = replyFor(request, failure === undefined ? answer : { failure }, this.messaging.service);
    return message ? [{ channel: 'command', address: answers.request.replyTo.address, message }] : [];
  }

  private results(batch: readonly Work[], decided: readonly Decided[], applied: readonly Applied[]): Committed[] {
    const results = new Map<Work, Committed>();
    for (const { work, before, events } of applied) {
      const state = events.reduce((current, event) => evolve(work.actor, current, event), before.state);
      results.set(work, { kind: 'applied', events, loaded: { state, sequence: before.sequence + events.length } });
    }
    for (const { work, decision } of decided) {
      if (isRejection(decision)) results.set(work, { kind: 'rejected', reason: decision.rejected });
    }
    return batch.map((work) => results.get(work) ?? { kind: 'duplicate' });
  }
}

const initial = (actor: Actor<unknown>): Loaded<unknown> => ({ state: actor.initialState, sequence: 0 });

const decideOn = (work: Work, before: Loaded<unknown>): Decided => ({
  work,
  before,
  decision: decide(work.actor, work.execution.command, before.state),
});

const refused = (work: Work, { rejected }: Rejection): Decided => ({
  work,
  before: initial(work.actor),
  decision: reject(rejected),
});

const appends = (decided: Decided | undefined): boolean =>
  decided !== undefined && !isRejection(decided.decision) && decided.decision.length > 0;

/** Decoded from what is stored, so that a state is the same whether it was just decided or loaded. */
function recorded(event: Message, draft: Draft | undefined): RecordedEvent {
  const data = draft ? decode(draft.definition, event) : event.data;
  return { type: event.type, data, sequence: event.sequence ?? 0, time: new Date(event.time) };
}

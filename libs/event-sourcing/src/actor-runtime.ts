import {
  causedBy,
  createMessage,
  decode,
  inTransaction,
  KeyedQueue,
  recordDiscarded,
  replyFor,
  toMessage,
  type Draft,
  type InboxGuard,
  type Message,
  type MessageDefinition,
  type Messaging,
  type OutboxEntry,
  type Transaction,
} from '@starter/messaging';
import { isRejection, streamId, type Actor, type Command, type Decision, type RecordedEvent } from './actor.js';
import { ActorCache, type Loaded } from './actor-cache.js';
import { decide, evolve } from './decide.js';
import { appendEvents, ConcurrencyError, loadEvents } from './event-store.js';
import type { Projection } from './projection.js';

export interface Execution {
  /** Id of the actor, without the actor's name. */
  readonly id: string;
  readonly command: Command;
  /** Admits the message that led here; without one the command takes effect each time it is executed. */
  readonly guard?: InboxGuard;
  /** Whom to tell what came of it, when that one asked for a reply; none = nobody is told. */
  readonly answers?: {
    readonly request: Message;
    /** The events that are stored say that the request has failed, for this reason. */
    readonly failure?: string;
  };
}

export type Executed<State> =
  | { readonly kind: 'applied'; readonly events: readonly RecordedEvent[]; readonly state: State }
  | { readonly kind: 'rejected'; readonly reason: string }
  | { readonly kind: 'duplicate' | 'parked' };

export interface ActorRuntimeOptions {
  /** Actors kept in memory. Default 10 000. */
  readonly cachedActors?: number;
  /** Attempts to win against other processes on one actor before the message goes back to its queue. Default 5. */
  readonly conflictAttempts?: number;
}

/**
 * Runs commands against actors: one at a time per actor, side by side over actors, each in one transaction that holds
 * the inbox row, the events, the outbox rows and the inline projections.
 */
export class ActorRuntime {
  private readonly mailboxes = new KeyedQueue();
  private readonly cache: ActorCache;
  private readonly conflictAttempts: number;
  private readonly projections: Projection[] = [];
  /** Appends that lost against another process and were decided again. */
  conflicts = 0;

  constructor(
    private readonly messaging: Messaging,
    options: ActorRuntimeOptions = {},
  ) {
    this.cache = new ActorCache(options.cachedActors ?? 10_000);
    this.conflictAttempts = options.conflictAttempts ?? 5;
  }

  project(projection: Projection): void {
    this.projections.push(projection);
  }

  execute<State>(actor: Actor<State>, execution: Execution): Promise<Executed<State>> {
    return this.mailboxes.run(streamId(actor, execution.id), () => this.executeUntilFree(actor, execution));
  }

  /** The state as of now; the initial state (sequence 0) when nothing has happened yet. */
  read<State>(actor: Actor<State>, id: string): Promise<Loaded<State>> {
    return inTransaction(this.messaging.dataSource, (tx) => this.load(tx, actor, streamId(actor, id)));
  }

  private async executeUntilFree<State>(actor: Actor<State>, execution: Execution): Promise<Executed<State>> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.executeOnce(actor, execution);
      } catch (error) {
        // Whatever failed, the cached state is not to be trusted over the log.
        this.cache.drop(streamId(actor, execution.id));
        if (!(error instanceof ConcurrencyError) || attempt >= this.conflictAttempts) throw error;
        this.conflicts += 1;
      }
    }
  }

  private async executeOnce<State>(actor: Actor<State>, execution: Execution): Promise<Executed<State>> {
    const { dataSource, counters } = this.messaging;
    const stream = streamId(actor, execution.id);
    let loaded: Loaded<State> | undefined;
    let executed: Executed<State>;
    try {
      executed = await inTransaction<Executed<State>>(dataSource, async (tx) => {
        // 1. Has this message taken effect before?
        const admission = await execution.guard?.admit(tx);
        if (admission && admission.verdict !== 'new') return { kind: admission.verdict };
        // 2. The actor as it is now, and 3. its decision.
        const { before, decision } = await this.decideOn(tx, actor, execution, this.cache.get<State>(stream));
        if (isRejection(decision)) throw new RejectedError(decision.rejected);
        // 4. Store the events, expecting that nobody else has appended since.
        const events = this.toEvents(stream, before.sequence, decision, execution.command.message);
        await appendEvents(tx, stream, execution.command.message.type, events);
        // 5. Write what goes out: the events, the commands that they set off, the reply.
        const recorded = events.map((event, index) => recordedEvent(event, decision[index]?.definition));
        await this.messaging.outbox.add(tx, this.outgoing(actor, execution, events, recorded));
        // 6. Rows that must never lag behind the events.
        await this.runProjections(tx, recorded);
        const state = recorded.reduce((current, event) => evolve(actor, current, event), before.state);
        loaded = { state, sequence: before.sequence + events.length };
        return { kind: 'applied', events: recorded, state };
      });
    } catch (error) {
      if (!(error instanceof RejectedError)) throw error;
      return this.refuse(execution, error.message);
    }
    // 7. Only a committed state may be remembered.
    if (loaded) this.cache.set(stream, loaded);
    if (executed.kind === 'applied' && execution.guard) counters.handled += 1;
    if (executed.kind === 'duplicate') counters.duplicates += 1;
    return executed;
  }

  /** In a transaction of its own, because the one that found the refusal may have written rows by then. */
  private async refuse<State>(execution: Execution, reason: string): Promise<Executed<State>> {
    const { dataSource, counters, commands } = this.messaging;
    return inTransaction(dataSource, async (tx) => {
      const admission = await execution.guard?.admit(tx);
      if (admission && admission.verdict !== 'new') return { kind: admission.verdict };
      await recordDiscarded(tx, commands.queue, execution.command.message, reason);
      await this.messaging.outbox.add(tx, this.reply(execution, { failure: reason }));
      counters.discarded += 1;
      return { kind: 'rejected', reason };
    });
  }

  /**
   * A cached state may lag behind what another process stored. An append finds that out by itself; a decision that
   * appends nothing would not, so it is taken again on what the log says.
   */
  private async decideOn<State>(
    tx: Transaction,
    actor: Actor<State>,
    { id, command }: Execution,
    cached: Loaded<State> | undefined,
  ): Promise<{ before: Loaded<State>; decision: Decision }> {
    if (cached) {
      const decision = decide(actor, command, cached.state);
      if (!isRejection(decision) && decision.length > 0) return { before: cached, decision };
    }
    const before = await this.load(tx, actor, streamId(actor, id), cached);
    return { before, decision: decide(actor, command, before.state) };
  }

  private async load<State>(
    tx: Transaction,
    actor: Actor<State>,
    stream: string,
    from: Loaded<State> = { state: actor.initialState, sequence: 0 },
  ): Promise<Loaded<State>> {
    const events = await loadEvents(tx, stream, from.sequence);
    const state = events.reduce((current, event) => {
      const definition = actor.evolve.get(event.type)?.definition;
      return evolve(actor, current, definition ? { ...event, data: decode(definition, event) } : event);
    }, from.state);
    return { state, sequence: events.at(-1)?.sequence ?? from.sequence };
  }

  private toEvents(stream: string, sequence: number, decision: readonly Draft[], cause: Message): Message[] {
    const { service: source } = this.messaging;
    return decision.map((draft, index) =>
      toMessage(draft, { source, subject: stream, sequence: sequence + index + 1, ...causedBy(cause) }),
    );
  }

  private outgoing<State>(
    actor: Actor<State>,
    execution: Execution,
    events: readonly Message[],
    recorded: readonly RecordedEvent[],
  ): OutboxEntry[] {
    const { service: source, topic } = this.messaging;
    const commands = events.flatMap((event, index) =>
      (actor.outgoing?.(recorded[index] as RecordedEvent) ?? []).map((command) =>
        createMessage({ source, ...causedBy(event), ...command }),
      ),
    );
    return [
      ...events.map((message): OutboxEntry => ({ channel: 'event', address: topic, message })),
      ...commands.map((message): OutboxEntry => ({ channel: 'command', address: message.type, message })),
      ...this.reply(execution, { result: events.at(-1)?.data ?? null }),
    ];
  }

  private reply(execution: Execution, answer: { result: unknown } | { failure: string }): OutboxEntry[] {
    if (!execution.answers) return [];
    const { request, failure } = execution.answers;
    const message = replyFor(request, failure === undefined ? answer : { failure }, this.messaging.service);
    return message && request.replyTo ? [{ channel: 'command', address: request.replyTo.address, message }] : [];
  }

  private async runProjections(tx: Transaction, events: readonly RecordedEvent[]): Promise<void> {
    for (const event of events) {
      for (const { handlers } of this.projections) {
        const refusal = await handlers.get(event.type)?.write(tx, event as RecordedEvent<never>);
        if (refusal) throw new RejectedError(refusal.rejected);
      }
    }
  }
}

/** Leaves the transaction, so that nothing of a refused command is written. */
class RejectedError extends Error {}

/** Decoded from what is stored, so that a state is the same whether it was just decided or loaded. */
function recordedEvent(event: Message, definition: MessageDefinition | undefined): RecordedEvent {
  const data = definition ? decode(definition, event) : event.data;
  return { type: event.type, data, sequence: event.sequence ?? 0, time: new Date(event.time) };
}

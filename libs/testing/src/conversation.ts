import {
  CommandFailed,
  CommandSucceeded,
  decide,
  evolve,
  type Actor,
  type Decision,
  type OutgoingCommand,
  type RecordedEvent,
} from '@starter/event-sourcing';
import { toMessage, type Draft, type Message, type MessageDefinition } from '@starter/messaging';
import { decisionForm, stored, wireForm } from './stored.js';

/**
 * The specification of an actor that sends commands and waits for their replies, a workflow:
 *
 *     converse(workflowInstance, workflowId)
 *       .when(start).thenSends(SendEmail.of(…))
 *       .whenSucceeded(SendEmail).thenSends(ActivateUser.of(…))
 *       .whenFailed(ActivateUser, 'the user is deactivated').thenSends(DeactivateUser.of(…));
 */
export function converse<State>(actor: Actor<State>, id: string): Conversation<State> {
  return new Conversation(actor, id);
}

export class Conversation<State> {
  state: State;
  /** All that were decided, oldest first. */
  readonly events: RecordedEvent[] = [];
  private time = new Date('2026-01-01T00:00:00.000Z');
  private decision: Decision = [];
  private sent: OutgoingCommand[] = [];
  private readonly open: OutgoingCommand[] = [];

  constructor(
    private readonly actor: Actor<State>,
    private readonly id: string,
  ) {
    this.state = actor.initialState;
  }

  /** What follows happens at this instant; before it, at the beginning of 2026. */
  at(time: string): this {
    this.time = new Date(time);
    return this;
  }

  when(command: Draft, envelope: Partial<Message> = {}): this {
    const fields = { source: 'spec', subject: this.id, time: this.time.toISOString(), ...envelope };
    this.decision = decide(this.actor, { data: command.data, message: toMessage(command, fields) }, this.state);
    this.sent = 'rejected' in this.decision ? [] : this.decision.flatMap((draft) => this.record(draft));
    this.open.push(...this.sent);
    return this;
  }

  /** The oldest command of this kind that waits for its reply was carried out. */
  whenSucceeded(definition: MessageDefinition, result: unknown = null): this {
    return this.when({ definition: CommandSucceeded, data: { requestId: this.answer(definition), result } });
  }

  whenFailed(
    definition: MessageDefinition,
    reason: string,
    more: { hopeless?: 'rejected' | 'invalid' | 'discarded' } = {},
  ): this {
    return this.when({ definition: CommandFailed, data: { requestId: this.answer(definition), reason, ...more } });
  }

  /** Somebody has revoked it at the service that had it. */
  whenRevoked(definition: MessageDefinition): this {
    const data = { requestId: this.answer(definition), reason: 'revoked: by hand', revoked: true };
    return this.when({ definition: CommandFailed, data });
  }

  /** Exactly these commands were set off by the last step, or none. */
  thenSends(...commands: Draft[]): this {
    const seen = this.sent.map(({ type, version, data }) => ({ type, version, data }));
    expect(seen).toEqual(commands.map(wireForm));
    return this;
  }

  /** The last step ended with these events. */
  thenEndsWith(...events: Draft[]): this {
    const seen = decisionForm(this.decision);
    expect(Array.isArray(seen) ? seen.slice(-events.length) : seen).toEqual(events.map(wireForm));
    return this;
  }

  thenNothing(): this {
    expect(decisionForm(this.decision)).toEqual([]);
    return this;
  }

  thenRejected(reason: string): this {
    expect(decisionForm(this.decision)).toEqual({ rejected: reason });
    return this;
  }

  private record(draft: Draft): readonly OutgoingCommand[] {
    const event = stored(draft, this.events.length + 1, this.time);
    this.events.push(event);
    this.state = evolve(this.actor, this.state, event);
    return this.actor.outgoing?.(event) ?? [];
  }

  private answer({ type }: MessageDefinition): string {
    const index = this.open.findIndex((command) => command.type === type);
    const [command] = index < 0 ? [] : this.open.splice(index, 1);
    if (command) return command.id;
    const waiting = this.open.map((other) => other.type).join(', ') || 'nothing';
    throw new Error(`no ${type} waits for a reply, but ${waiting}; check the steps before`);
  }
}

import { decide, evolve, isRejection, type Actor, type Command, type RecordedEvent } from '@starter/event-sourcing';
import { toMessage, type Draft, type Message, type MessageDefinition } from '@starter/messaging';
import fc, { type Arbitrary } from 'fast-check';
import { z } from 'zod';
import { testSeed } from './seeded-random.js';
import { decisionForm, stored } from './stored.js';

/** An actor after one of its events. */
export interface Moment<State> {
  readonly state: State;
  readonly before: State;
  readonly event: RecordedEvent;
  /** All up to and with this one, oldest first. */
  readonly events: readonly RecordedEvent[];
}

export interface ActorCheck<State> {
  readonly commands: Arbitrary<Draft>;
  /** What is true after every event, by what it says; false or a throw is a failure. */
  readonly invariants: Readonly<Record<string, (moment: Moment<State>) => boolean | void>>;
  /** Commands that decide nothing more when they come again at once. */
  readonly idempotent?: readonly MessageDefinition[];
  /** Fields that all messages have, such as an id that the actor is named after. */
  readonly envelope?: Partial<Message>;
  /** Sequences of commands. Default 200. */
  readonly runs?: number;
  /** Commands in a sequence. Default 30. */
  readonly maxCommands?: number;
}

/**
 * Sends random sequences of commands to an actor. Whatever the commands, each decision is a refusal, or events that fit
 * their schemas and that the actor can apply; the same command and state give the same decision and the same commands out;
 * no state is changed in place; the state that the log or a snapshot gives is the live one; and the invariants hold.
 * @throws Error with the shortest sequence that fails and the seed that finds it again (TEST_SEED)
 */
export function checkActor<State>(actor: Actor<State>, check: ActorCheck<State>): void {
  const seed = testSeed();
  const sequences = fc.array(check.commands, { maxLength: check.maxCommands ?? 30 });
  const outcome = fc.check(
    fc.property(sequences, (drafts) => run(actor, check, drafts)),
    { seed, numRuns: check.runs ?? 200 },
  );
  if (!outcome.failed) return;
  const [drafts = []] = outcome.counterexample ?? [];
  const commands = drafts.map(({ definition, data }) => `  ${definition.type} ${JSON.stringify(data)}`);
  const { errorInstance: cause } = outcome;
  const problem = cause instanceof Error ? cause.message : String(cause);
  const what = `actor ${actor.name}: ${problem}\nafter the commands\n${commands.join('\n') || '  (none)'}`;
  throw new Error(`${what}\nrepeat with TEST_SEED=${seed}`, { cause });
}

function run<State>(actor: Actor<State>, check: ActorCheck<State>, drafts: readonly Draft[]): void {
  const events: RecordedEvent[] = [];
  let state = deepFreeze(actor.initialState);
  drafts.forEach((draft, index) => {
    const time = new Date(Date.UTC(2026, 0, 1) + index * 1_000);
    const fields = { source: 'spec', subject: 'one', time: time.toISOString(), ...check.envelope };
    const message = toMessage(draft, fields);
    const command = deepFreeze({ data: stored(draft, 1).data, message });
    for (const event of decideTwice(actor, command, state)) {
      const before = state;
      events.push(deepFreeze({ ...stored(event, events.length + 1, time) }));
      state = applyTwice(actor, before, events);
      holds(check, { state, before, event: events.at(-1) as RecordedEvent, events });
    }
    if (check.idempotent?.some(({ type }) => type === message.type)) {
      const again = decide(actor, command, state);
      if (!isRejection(again))
        same(
          again.map(({ definition }) => definition.type),
          [],
          `${message.type}, repeated, decides`,
        );
    }
  });
  const replayed = events.reduce((current, event) => evolve(actor, current, event), actor.initialState);
  same(replayed, state, 'the log gives another state than the one that decided');
}

function decideTwice<State>(actor: Actor<State>, command: Command, state: State): readonly Draft[] {
  const decision = decide(actor, command, state);
  const what = `${command.message.type} is decided in two ways on the same state`;
  same(decisionForm(decide(actor, command, state)), decisionForm(decision), what);
  return isRejection(decision) ? [] : decision;
}

function applyTwice<State>(actor: Actor<State>, before: State, events: readonly RecordedEvent[]): State {
  const event = events.at(-1) as RecordedEvent;
  const state = deepFreeze(evolve(actor, before, event));
  same(evolve(actor, before, event), state, `${event.type} is applied in two ways to the same state`);
  same(actor.outgoing?.(event), actor.outgoing?.(event), `${event.type} sends different commands each time`);
  if (!actor.snapshot) return state;
  const { schema } = actor.snapshot;
  const snapshot: unknown = JSON.parse(JSON.stringify(z.encode(schema, state)));
  same(z.decode(schema, snapshot), state, 'a snapshot gives another state than the one that it was taken of');
  return state;
}

function holds<State>({ invariants }: ActorCheck<State>, moment: Moment<State>): void {
  for (const [saying, holdsAt] of Object.entries(invariants)) {
    if (holdsAt(moment) !== false) continue;
    const { event, state } = moment;
    throw new Error(`"${saying}" does not hold after ${event.type}; the state is ${JSON.stringify(state)}`);
  }
}

function same(seen: unknown, wanted: unknown, what: string): void {
  try {
    // Jest's equality, which knows maps and immutable collections.
    expect(seen).toEqual(wanted);
  } catch (cause) {
    throw new Error(`${what}: ${JSON.stringify(seen)} instead of ${JSON.stringify(wanted)}`, { cause });
  }
}

/** Plain objects and arrays only: what classes keep inside themselves is theirs to change. */
function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  const prototype: unknown = Object.getPrototypeOf(value);
  if (prototype !== Object.prototype && prototype !== null && !Array.isArray(value)) return value;
  Object.values(value).forEach(deepFreeze);
  return Object.freeze(value);
}

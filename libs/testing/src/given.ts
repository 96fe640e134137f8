import { decide, evolve, isRejection, type Actor, type Decision, type RecordedEvent } from '@starter/event-sourcing';
import { createMessage, toMessage, type Draft, type Message } from '@starter/messaging';

interface Then {
  /** Exactly these events, or none. */
  then(...events: Draft[]): void;
  thenRejected(reason: string): void;
}

/**
 * The specification of a decider: `given(user, UserRegistered.of(ada)).when(ActivateUser.of(…)).then(UserActivated.of(…))`.
 * Every event and command is checked against its schema, as it would be when it is stored or sent.
 */
export function given<State>(actor: Actor<State>, ...past: Draft[]) {
  const events = past.map(({ definition, data }, index): RecordedEvent => ({
    type: definition.type,
    data,
    sequence: index + 1,
    time: new Date(0),
  }));
  const state = events.reduce((current, event) => evolve(actor, current, event), actor.initialState);
  return {
    state,
    when(command: Draft, envelope: Partial<Message> = {}): Then {
      const message = { ...toMessage(command, { source: 'spec' }), ...envelope };
      const decision = decide(actor, { data: command.data, message }, state);
      return {
        then: (...expected) => expect(wireForm(decision)).toEqual(wireForm(expected)),
        thenRejected: (reason) => expect(decision).toEqual({ rejected: reason }),
      };
    },
  };
}

const wireForm = (decision: Decision) =>
  isRejection(decision)
    ? decision
    : decision.map((draft) => {
        const { type, version, data } = createMessage(toMessage(draft, { source: 'spec' }));
        return { type, version, data };
      });

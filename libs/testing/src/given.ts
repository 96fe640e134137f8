import { decide, evolve, type Actor } from '@starter/event-sourcing';
import { toMessage, type Draft, type Message } from '@starter/messaging';
import { decisionForm, stored } from './stored.js';

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
  const events = past.map((draft, index) => stored(draft, index + 1));
  const state = events.reduce((current, event) => evolve(actor, current, event), actor.initialState);
  return {
    state,
    when(command: Draft, envelope: Partial<Message> = {}): Then {
      const message = { ...toMessage(command, { source: 'spec' }), ...envelope };
      const decision = decide(actor, { data: command.data, message }, state);
      return {
        then: (...expected) => expect(decisionForm(decision)).toEqual(decisionForm(expected)),
        thenRejected: (reason) => expect(decision).toEqual({ rejected: reason }),
      };
    },
  };
}

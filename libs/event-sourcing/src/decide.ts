import { TerminalError, ValidationError } from '@starter/messaging';
import { isRejection, type Actor, type Command, type Decision, type RecordedEvent } from './actor.js';

/** @throws ValidationError when the actor does not handle this type */
export function decide<State>(actor: Actor<State>, command: Command, state: State): Decision {
  const handler = actor.decide.get(command.message.type);
  if (!handler) {
    const known = [...actor.decide.keys()].join(', ');
    throw new ValidationError(`actor ${actor.name} does not handle ${command.message.type}; it handles: ${known}`);
  }
  const decision = handler.decide(command as Command<never>, state);
  if (typeof (decision as { then?: unknown }).then === 'function') {
    const what = `actor ${actor.name} decided on ${command.message.type} with a promise`;
    throw new TerminalError(`${what}; a decider is pure and answers at once`);
  }
  if (isRejection(decision)) return decision;
  for (const { definition } of decision) {
    if (actor.evolve.has(definition.type)) continue;
    throw new Error(`actor ${actor.name} decided ${definition.type} but has no apply(...) for it; add one`);
  }
  return decision;
}

/** @throws Error on an event type that the actor does not know: its state would be wrong from there on */
export function evolve<State>(actor: Actor<State>, state: State, event: RecordedEvent): State {
  const handler = actor.evolve.get(event.type);
  if (!handler) {
    throw new Error(
      `actor ${actor.name} cannot apply ${event.type} (sequence ${event.sequence}); add an apply(...) for it, or ignore(...) it`,
    );
  }
  return handler.evolve(state, event as RecordedEvent<never>);
}

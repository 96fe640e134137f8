import { causedBy, decode, toMessage, type Draft, type Message } from '@starter/messaging';
import { isRejection, type RecordedEvent } from './actor.js';
import type { Loaded } from './actor-cache.js';
import { decide, evolve } from './decide.js';
import type { Verdict, Work } from './execution.js';

/** The commands of one actor, one after the other on the state that the last one left. A throw fails only its own command. */
export function decideTurn(works: readonly Work[], before: Loaded<unknown>, source: string): Verdict[] {
  let loaded = before;
  return works.map((work) => {
    const verdict = decideOne(work, loaded, source);
    if (verdict.kind === 'applied') loaded = verdict.loaded;
    return verdict;
  });
}

function decideOne(work: Work, before: Loaded<unknown>, source: string): Verdict {
  const { actor, stream, execution } = work;
  try {
    const decision = decide(actor, execution.command, before.state);
    if (isRejection(decision)) return { work, kind: 'rejected', reason: decision.rejected };
    const cause = causedBy(execution.command.message);
    const messages = decision.map((draft, index) =>
      toMessage(draft, { source, subject: stream, sequence: before.sequence + index + 1, ...cause }),
    );
    const events = messages.map((message, index) => recorded(message, decision[index]));
    const state = events.reduce((current, event) => evolve(actor, current, event), before.state);
    const last = messages.at(-1);
    const loaded = last ? { ...before, state, sequence: last.sequence ?? 0, eventId: last.id } : before;
    return { work, kind: 'applied', messages, events, before: before.state, loaded };
  } catch (error) {
    return { work, kind: 'failed', error };
  }
}

/** Decoded from what is stored, so that a state is the same whether it was just decided or loaded. */
function recorded(event: Message, draft: Draft | undefined): RecordedEvent {
  const data = draft ? decode(draft.definition, event) : event.data;
  return { type: event.type, data, sequence: event.sequence ?? 0, time: new Date(event.time) };
}

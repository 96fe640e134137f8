import { isRejection, type Decision, type RecordedEvent } from '@starter/event-sourcing';
import { decode, toMessage, type Draft } from '@starter/messaging';

/** What travels or is stored of a draft. @throws ValidationError when it does not fit its schema */
export function wireForm(draft: Draft) {
  const { type, version, data } = toMessage(draft, { source: 'spec' });
  return { type, version, data: JSON.parse(JSON.stringify(data)) as unknown };
}

/** A decision in a form that can be compared. @throws ValidationError when one of its events does not fit its schema */
export const decisionForm = (decision: Decision) => (isRejection(decision) ? decision : decision.map(wireForm));

/** An event as it comes back from the log. @throws ValidationError when it does not fit its schema */
export function stored(draft: Draft, sequence: number, time = new Date(0)): RecordedEvent {
  return { type: draft.definition.type, data: decode(draft.definition, wireForm(draft)), sequence, time };
}

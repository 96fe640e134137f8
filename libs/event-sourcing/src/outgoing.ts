import { causedBy, createMessage, replyEntry, type Answer, type Messaging, type OutboxEntry } from '@starter/messaging';
import type { Verdict, Work } from './execution.js';

/** What leaves the service because of a command: its events, the commands that they set off, the reply. */
export function outgoing(verdict: Verdict, { service, topic }: Pick<Messaging, 'service' | 'topic'>): OutboxEntry[] {
  const { work } = verdict;
  if (verdict.kind === 'rejected') return reply(work, { failure: verdict.reason, hopeless: 'rejected' }, service);
  if (verdict.kind !== 'applied') return [];
  const { messages, events } = verdict;
  const commands = messages.flatMap((message, index) => {
    const event = events[index];
    const drafts = event && work.actor.outgoing ? work.actor.outgoing(event) : [];
    return drafts.map(({ address, ...draft }): OutboxEntry => {
      const command = createMessage({ source: service, ...causedBy(message), ...draft });
      return { channel: 'command', address: address ?? command.type, message: command };
    });
  });
  return [
    ...messages.map((message): OutboxEntry => ({ channel: 'event', address: topic, message })),
    ...commands,
    ...reply(work, { result: messages.at(-1)?.data ?? null }, service),
  ];
}

function reply({ execution: { answers } }: Work, answer: Answer, source: string): OutboxEntry[] {
  if (!answers?.request.replyTo) return [];
  const told: Answer = answers.failure === undefined ? answer : { failure: answers.failure };
  const entry = replyEntry(answers.request, told, source);
  return entry ? [entry] : [];
}

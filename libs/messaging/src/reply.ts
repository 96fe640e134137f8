import { z } from 'zod';
import type { MessageDefinition } from './definition.js';
import { errorText } from './logger.js';
import { causedBy, createMessage, type Message } from './message.js';
import type { OutboxEntry } from './outbox/outbox.js';
import { bounds, storableValue } from './storable.js';

/** It was parsed from JSON; `z.json()` would take it apart once more, which takes longer than all else that becomes of it. */
const json = z.unknown().refine((value) => value !== undefined) as unknown as z.ZodType<z.core.util.JSONType>;

/** The answer to a command that carried `replyTo`; the subject is the one that the sender gave. */
export const CommandSucceeded = {
  kind: 'command',
  type: 'command.succeeded',
  version: 1,
  owner: 'sender',
  schema: z.object({ requestId: z.string(), result: json }),
} as const satisfies MessageDefinition;

export const CommandFailed = {
  kind: 'command',
  type: 'command.failed',
  version: 1,
  owner: 'sender',
  schema: z.object({
    requestId: z.string(),
    reason: z.string(),
    /** Somebody did not want it to be done: it is not to be sent again. */
    revoked: z.literal(true).exactOptional(),
  }),
} as const satisfies MessageDefinition;

export type Answer = { readonly result: unknown } | { readonly failure: string; readonly revoked?: true };

/** Whoever waits must not wait for ever: a result that cannot be stored fails its request. */
function storableAnswer(answer: Answer): Answer {
  try {
    return storableValue(answer, 'the answer', bounds.replyDepth);
  } catch (error) {
    return { failure: errorText(error) };
  }
}

/** The reply to `request`, or undefined when nobody asked for one. */
export function replyFor(request: Message, given: Answer, source: string): Message | undefined {
  if (!request.replyTo) return undefined;
  const answer = storableAnswer(given);
  const [definition, content] =
    'failure' in answer
      ? [CommandFailed, { reason: answer.failure, ...(answer.revoked ? { revoked: true } : {}) }]
      : [CommandSucceeded, { result: answer.result ?? null }];
  return createMessage({
    type: definition.type,
    version: definition.version,
    source,
    subject: request.replyTo.subject,
    ...causedBy(request),
    data: { requestId: request.id, ...content },
  });
}

/**
 * The same for the outbox. Replies name their request and need no order. Ordered by their subject, those to a workflow with many
 * tasks would go out one by one, each waiting for the broker to confirm the one before.
 */
export function replyEntry(request: Message, answer: Answer, source: string): OutboxEntry | undefined {
  const message = replyFor(request, answer, source);
  if (!message || !request.replyTo) return undefined;
  return { channel: 'command', address: request.replyTo.address, message, orderingKey: message.id };
}

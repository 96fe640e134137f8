import { z } from 'zod';
import type { DataOf, MessageDefinition } from './definition.js';
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
    /** Another attempt would fail as well: a rule says no, it does not fit its contract, or an operator has given it up. */
    hopeless: z.enum(['rejected', 'invalid', 'discarded']).exactOptional(),
  }),
} as const satisfies MessageDefinition;

/** No answer yet: the command waits for an operator as a dead letter, or has been given to its handler again. */
export const CommandHeld = {
  kind: 'command',
  type: 'command.held',
  version: 1,
  owner: 'sender',
  schema: z.object({
    requestId: z.string(),
    /** Whose operators see to it. */
    service: z.string(),
    status: z.enum(['dead-letter', 'redriven']),
    reason: z.string(),
    since: z.iso.datetime(),
  }),
} as const satisfies MessageDefinition;

type Hopeless = NonNullable<DataOf<typeof CommandFailed>['hopeless']>;

export type Answer =
  | { readonly result: unknown }
  | { readonly failure: string; readonly revoked?: true; readonly hopeless?: Hopeless }
  | { readonly held: Omit<DataOf<typeof CommandHeld>, 'requestId' | 'service'> };

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
  const [definition, content] = contentOf(storableAnswer(given), source);
  return createMessage({
    type: definition.type,
    version: definition.version,
    source,
    subject: request.replyTo.subject,
    ...causedBy(request),
    data: { requestId: request.id, ...content },
  });
}

function contentOf(answer: Answer, service: string): readonly [definition: MessageDefinition, content: object] {
  if ('held' in answer) return [CommandHeld, { service, ...answer.held }];
  if (!('failure' in answer)) return [CommandSucceeded, { result: answer.result ?? null }];
  const { failure: reason, ...rest } = answer;
  return [CommandFailed, { reason, ...rest }];
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

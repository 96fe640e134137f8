import { UndecodableError } from './errors.js';
import type { Message } from './message.js';
import { CommandFailed, CommandSucceeded } from './reply.js';
import { bounds, nameProblem, storableValue } from './storable.js';

export const isReply = (type: string): boolean => type === CommandSucceeded.type || type === CommandFailed.type;

/**
 * Somebody waits for a reply, and would for ever if it were lost: one that cannot be stored fails its request for that reason.
 * @throws UndecodableError when it is no reply, or does not say to what
 */
export function mendedReply(message: Message, problem: string): Message {
  const { type, data } = message;
  const { requestId } = (data ?? {}) as { readonly requestId?: unknown };
  if (!isReply(type) || typeof requestId !== 'string' || nameProblem(requestId)) throw new UndecodableError(problem);
  if (type === CommandFailed.type) {
    try {
      return { ...message, data: storableValue(data, 'the reason', bounds.replyDepth) };
    } catch {
      // Told below.
    }
  }
  const reason = `the reply cannot be stored: ${problem}`;
  return { ...message, type: CommandFailed.type, version: CommandFailed.version, data: { requestId, reason } };
}

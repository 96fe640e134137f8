import { UndecodableError } from './errors.js';
import type { Message } from './message.js';
import { CommandFailed, CommandSucceeded } from './reply.js';
import { bounds, nameProblem, shortened, storableValue } from './storable.js';

export const isReply = (type: string): boolean => type === CommandSucceeded.type || type === CommandFailed.type;

/** Why a reply is none of its contract; undefined for another version, which a later release may know. */
export function replyProblem({ type, version, data }: Pick<Message, 'type' | 'version' | 'data'>): string | undefined {
  const contract = [CommandSucceeded, CommandFailed].find((one) => one.type === type && one.version === version);
  const error = contract?.schema.safeParse(data).error;
  if (!error) return undefined;
  const places = error.issues.map(({ path, message }) => `${path.join('.') || 'the body'}: ${message}`);
  return `it does not fit ${type} v${version} (${shortened(places.join('; '), 1_000)})`;
}

/**
 * Somebody waits for a reply, and would for ever if it were lost: one that cannot be read, cannot be stored or does not fit its
 * contract fails its request for that reason. A body that does not name its request leaves that to `causation-id`.
 * @throws UndecodableError when it is no reply, or does not say to what
 */
export function mendedReply(message: Message, problem: string): Message {
  const { type, data } = message;
  const requestId = requestOf(message);
  if (!isReply(type) || requestId === undefined) throw new UndecodableError(problem);
  const reason = `the reply is of no use: ${problem}`;
  if (type === CommandFailed.type) {
    try {
      const mended = { ...message, data: storableValue(data, 'the reason', bounds.replyDepth) };
      if (!replyProblem(mended)) return mended;
    } catch {
      // Told below.
    }
  }
  return { ...message, type: CommandFailed.type, version: CommandFailed.version, data: { requestId, reason } };
}

function requestOf({ data, causationId }: Message): string | undefined {
  const { requestId } = (data ?? {}) as { readonly requestId?: unknown };
  return typeof requestId === 'string' && requestId !== '' && !nameProblem(requestId) ? requestId : causationId;
}

import type { Message } from '../message.js';
import type { OutboxEntry } from '../outbox/outbox.js';
import { replyEntry } from '../reply.js';

/** A command that has become a dead letter, or has been given to its handler again. */
export interface HeldCommand {
  readonly message: Message;
  readonly reason: string;
  /** ISO. */
  readonly since: string;
}

/** Who waits for the reply of a command learns that it waits for an operator of `service`, or does so no longer. */
export const heldReplies = (
  commands: readonly HeldCommand[],
  status: 'dead-letter' | 'redriven',
  service: string,
): OutboxEntry[] =>
  commands.flatMap(
    ({ message, reason, since }) => replyEntry(message, { held: { status, reason, since } }, service) ?? [],
  );

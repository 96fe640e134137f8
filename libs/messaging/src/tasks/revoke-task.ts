import { z } from 'zod';
import type { MessageDefinition } from '../definition.js';

/**
 * Takes a command back that was sent before. It goes where that went, under the routing key of the command: so it reaches the
 * one queue that holds it, and the sender has to know no more than when it sent the command. Where that is no task, it changes
 * nothing.
 */
export const RevokeTask = {
  kind: 'command',
  type: 'task.revoke',
  version: 1,
  owner: 'receiver',
  schema: z.object({
    /** Of the command. */
    taskId: z.string().min(1),
    command: z.string().min(1),
    /** See `Revocation`. */
    terminate: z.boolean(),
    reason: z.string().min(1),
  }),
} as const satisfies MessageDefinition;

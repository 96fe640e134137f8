import { z } from 'zod';
import type { MessageDefinition } from './definition.js';

/**
 * Takes a command back that was sent before. It goes to the service that handles that, under {@link revocationAddress}: the sender
 * has to know no more than when it sent the command. Where that is no task, it changes nothing.
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
    /** What runs ends at once; otherwise its signal aborts. */
    terminate: z.boolean(),
    reason: z.string().min(1),
  }),
} as const satisfies MessageDefinition;

/** Routing key under which a command of this type is revoked. Its queue is another: a revocation waits for no task. */
export const revocationAddress = (command: string): string => `${command}.revoke`;

import { z } from 'zod';
import type { MessageDefinition } from '@starter/messaging';

/** Where a service tells the keys of its subjects, wrapped, to the services that open what it has sealed. Compacted. */
export const keyTopic = (service: string): string => `${service}.keys`;

const definition = { kind: 'event', version: 1, owner: 'sealer' } as const;

export const KeyCreated = {
  ...definition,
  type: 'personal-data.key-created',
  schema: z.object({ subject: z.string(), wrappedKey: z.string() }),
} as const satisfies MessageDefinition;

/** Takes the place of the subject's `KeyCreated` in the compacted topic. */
export const KeyErased = {
  ...definition,
  type: 'personal-data.key-erased',
  schema: z.object({ subject: z.string() }),
} as const satisfies MessageDefinition;

import { z } from 'zod';
import { dateTime, defineCommand, defineEvent } from './definition.js';
import { personal, sealed } from './personal.js';

const owner = 'user-service';
const userId = z.uuid();

export const RegisterUser = defineCommand('user.register', {
  version: 1,
  owner,
  key: 'userId',
  personalTo: 'userId',
  schema: z.object({
    userId,
    email: personal(z.email().max(254)),
    name: personal(z.string().trim().min(1).max(200)),
  }),
});

export const UserRegistered = defineEvent('user.registered', {
  version: 1,
  owner,
  schema: z.object({ userId, email: sealed, name: sealed, registeredAt: dateTime }),
});

export const ActivateUser = defineCommand('user.activate', {
  version: 1,
  owner,
  key: 'userId',
  schema: z.object({ userId }),
});

export const UserActivated = defineEvent('user.activated', {
  version: 1,
  owner,
  schema: z.object({ userId }),
});

export const DeactivateUser = defineCommand('user.deactivate', {
  version: 1,
  owner,
  key: 'userId',
  schema: z.object({ userId, reason: z.string().min(1) }),
});

export const UserDeactivated = defineEvent('user.deactivated', {
  version: 1,
  owner,
  schema: z.object({ userId, reason: z.string() }),
});

/** Makes the user's personal data unreadable wherever it is, for ever. */
export const EraseUser = defineCommand('user.erase', {
  version: 1,
  owner,
  key: 'userId',
  schema: z.object({ userId }),
});

/** The key is destroyed with it: what was sealed for this user is noise from here on. */
export const UserErased = defineEvent('user.erased', {
  version: 1,
  owner,
  schema: z.object({ userId }),
});

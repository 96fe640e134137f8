import { z } from 'zod';
import { dateTime, defineCommand, defineEvent } from './definition.js';
import { oneLine } from './one-line.js';
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
    name: personal(oneLine(200)),
    /** Who knows it can read the user's e-mails. */
    verificationToken: personal(z.string().regex(/^[\w-]{20,200}$/)),
  }),
});

export const UserRegistered = defineEvent('user.registered', {
  version: 1,
  owner,
  schema: z.object({
    userId,
    email: sealed('email'),
    name: sealed('name'),
    verificationToken: sealed('verificationToken'),
    registeredAt: dateTime,
  }),
});

/** Somebody has shown the token: whoever sends it has compared it. */
export const VerifyUser = defineCommand('user.verify', {
  version: 1,
  owner,
  key: 'userId',
  schema: z.object({ userId }),
});

/** The user reads what is sent to the address. */
export const UserVerified = defineEvent('user.verified', {
  version: 1,
  owner,
  schema: z.object({ userId }),
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

/** A task: copies the directory as it is, to be fetched as CSV. Its result says how many users are in it. */
export const ExportUsers = defineCommand('user.export', {
  version: 1,
  owner,
  schema: z.object({ status: z.enum(['registered', 'verified', 'active', 'deactivated']).exactOptional() }),
});

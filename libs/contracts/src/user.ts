import { z } from 'zod';
import { dateTime, defineCommand, defineEvent } from './definition.js';

const owner = 'user-service';
const userId = z.uuid();
const email = z.email().max(254);
const name = z.string().trim().min(1).max(200);

export const RegisterUser = defineCommand('user.register', {
  version: 1,
  owner,
  key: 'userId',
  schema: z.object({ userId, email, name }),
});

export const UserRegistered = defineEvent('user.registered', {
  version: 1,
  owner,
  schema: z.object({ userId, email, name, registeredAt: dateTime }),
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

import { ActivateUser, DeactivateUser, SendEmail, UserRegistered } from '@starter/contracts';
import { chain, task, workflow } from '../workflow/definition/builder.js';

/** Whoever registers gets a welcome e-mail and is active; whoever cannot be reached is deactivated. */
export const userOnboarding = workflow('user-onboarding', { startsOn: UserRegistered }, ({ userId, email, name }) =>
  chain(
    task(SendEmail, { to: email, template: 'welcome', variables: { name } }),
    task(ActivateUser, { userId }),
  ).compensateWith(task(DeactivateUser, { userId, reason: 'the welcome e-mail could not be delivered' })),
);

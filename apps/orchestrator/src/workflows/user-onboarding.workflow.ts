import { ActivateUser, DeactivateUser, SendEmail, UserRegistered, UserVerified, type DataOf } from '@starter/contracts';
import { chain, task, waitForEvent, workflow } from '@starter/workflows';

/**
 * Whoever registers gets a welcome e-mail with a code, and is active once the address is verified with it. Who has not done so
 * within a day is reminded; who cannot be reached, or has not done so within a week, is deactivated.
 */
export const userOnboarding = workflow('user-onboarding', { startsOn: UserRegistered }, (registered) => {
  const { userId, email, name, verificationToken } = registered;
  const send = (template: DataOf<typeof SendEmail>['template']) =>
    task(SendEmail, { to: email, template, variables: { name, code: verificationToken } });
  const verified = (timeout: '1d' | '6d') => waitForEvent(UserVerified, { match: { userId }, timeout });
  return chain(
    send('welcome'),
    verified('1d').orElse(chain(send('verification-reminder'), verified('6d'))),
    task(ActivateUser, { userId }),
  ).compensateWith(task(DeactivateUser, { userId, reason: 'the e-mail address was not verified' }));
});

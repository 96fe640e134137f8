import {
  ActivateUser,
  DeactivateUser,
  EraseUser,
  RegisterUser,
  UserActivated,
  UserDeactivated,
  UserErased,
  UserRegistered,
  UserVerified,
  VerifyUser,
} from '@starter/contracts';
import { given, sealedText } from '@starter/testing';
import { user } from './user.decider.js';

const userId = '018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5f';
const ada = {
  userId,
  email: sealedText('ada@example.com', 'email'),
  name: sealedText('Ada'),
  verificationToken: sealedText('token', 'verificationToken'),
};
const time = '2026-01-02T03:04:05.678Z';
const registered = UserRegistered.of({ ...ada, registeredAt: new Date(time) });
const verified = UserVerified.of({ userId });
const activated = UserActivated.of({ userId });
const deactivated = UserDeactivated.of({ userId, reason: 'gone' });
const erased = UserErased.of({ userId });

it('registers a new user at the time of the command', () => {
  given(user).when(RegisterUser.of(ada), { time }).then(registered);
});

it('registers nobody twice', () => {
  given(user, registered).when(RegisterUser.of(ada)).then();
});

it('verifies a registered user once', () => {
  given(user, registered).when(VerifyUser.of({ userId })).then(verified);
  given(user, registered, verified).when(VerifyUser.of({ userId })).then();
  given(user, registered, verified, activated).when(VerifyUser.of({ userId })).then();
});

it('verifies nobody who is unknown, deactivated or erased', () => {
  given(user).when(VerifyUser.of({ userId })).thenRejected('the user is not registered');
  given(user, registered, deactivated).when(VerifyUser.of({ userId })).thenRejected('the user is deactivated');
  given(user, registered, erased).when(VerifyUser.of({ userId })).thenRejected('the user is erased');
});

it('activates a verified user once, and nobody whose address is not verified', () => {
  given(user, registered)
    .when(ActivateUser.of({ userId }))
    .thenRejected('the e-mail address of the user is not verified');
  given(user, registered, verified).when(ActivateUser.of({ userId })).then(activated);
  given(user, registered, verified, activated).when(ActivateUser.of({ userId })).then();
});

it('activates nobody who is unknown or deactivated', () => {
  given(user).when(ActivateUser.of({ userId })).thenRejected('the user is not registered');
  given(user, registered, deactivated).when(ActivateUser.of({ userId })).thenRejected('the user is deactivated');
});

it('deactivates a registered or active user once', () => {
  const command = DeactivateUser.of({ userId, reason: 'gone' });
  given(user, registered).when(command).then(deactivated);
  given(user, registered, verified, activated).when(command).then(deactivated);
  given(user, registered, deactivated).when(command).then();
  given(user).when(command).thenRejected('the user is not registered');
});

it('erases a user once, whatever the user was, and for good', () => {
  const command = EraseUser.of({ userId });
  for (const past of [[registered], [registered, verified, activated], [registered, deactivated]]) {
    given(user, ...past)
      .when(command)
      .then(erased);
  }
  given(user).when(command).thenRejected('the user is not registered');
  given(user, registered, erased).when(command).then();
  given(user, registered, erased).when(RegisterUser.of(ada)).then();
  given(user, registered, erased).when(ActivateUser.of({ userId })).thenRejected('the user is erased');
  expect(given(user, registered, erased).state).toEqual({ status: 'erased' });
});

it('has nothing to deactivate when the user is erased, so that a workflow that takes back what it did comes to its end', () => {
  given(user, registered, erased)
    .when(DeactivateUser.of({ userId, reason: 'gone' }))
    .then();
});

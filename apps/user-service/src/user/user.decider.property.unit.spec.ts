import { ActivateUser, DeactivateUser, EraseUser, RegisterUser, UserRegistered, VerifyUser } from '@starter/contracts';
import { checkActor, sealedText } from '@starter/testing';
import fc from 'fast-check';
import { user } from './user.decider.js';

const userId = '018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5f';
const commands = fc.oneof(
  fc
    .record({ email: fc.constantFrom('ada@example.com', 'bob@example.com'), name: fc.constantFrom('Ada', 'Bob') })
    .map(({ email, name }) => ({ userId, email: sealedText(email, 'email'), name: sealedText(name) }))
    .map((texts) => RegisterUser.of({ ...texts, verificationToken: sealedText('token', 'verificationToken') })),
  fc.constant(VerifyUser.of({ userId })),
  fc.constant(ActivateUser.of({ userId })),
  fc.constant(EraseUser.of({ userId })),
  fc.constantFrom('gone', 'moved').map((reason) => DeactivateUser.of({ userId, reason })),
);

it('keeps its rules whatever the commands', () => {
  checkActor(user, {
    commands,
    idempotent: [RegisterUser, VerifyUser, ActivateUser, DeactivateUser, EraseUser],
    invariants: {
      'a user is registered first, and once': ({ events }) =>
        events.every(({ type }, index) => (type === UserRegistered.type) === (index === 0)),
      'name and address stay those of the registration until they are erased': ({ state, events: [registered] }) =>
        state.status === 'erased'
          ? expect(state).toEqual({ status: 'erased' })
          : expect(state).toMatchObject({
              email: (registered?.data as { email: string }).email,
              name: (registered?.data as { name: string }).name,
            }),
      'whoever is active was verified before': ({ before, state }) =>
        state.status !== 'active' || before.status === 'verified',
      'whoever is deactivated stays so until erased': ({ before, state }) =>
        before.status !== 'deactivated' || state.status === 'erased',
      'whoever is erased stays so': ({ before }) => before.status !== 'erased',
      'each event changes the status': ({ before, state }) => before.status !== state.status,
    },
  });
});

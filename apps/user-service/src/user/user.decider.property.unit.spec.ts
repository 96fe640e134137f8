import { ActivateUser, DeactivateUser, RegisterUser, UserRegistered } from '@starter/contracts';
import { checkActor } from '@starter/testing';
import fc from 'fast-check';
import { user } from './user.decider.js';

const userId = '018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5f';
const commands = fc.oneof(
  fc
    .record({ email: fc.constantFrom('ada@example.com', 'bob@example.com'), name: fc.constantFrom('Ada', 'Bob') })
    .map((data) => RegisterUser.of({ userId, ...data })),
  fc.constant(ActivateUser.of({ userId })),
  fc.constantFrom('gone', 'moved').map((reason) => DeactivateUser.of({ userId, reason })),
);

it('keeps its rules whatever the commands', () => {
  checkActor(user, {
    commands,
    idempotent: [RegisterUser, ActivateUser, DeactivateUser],
    invariants: {
      'a user is registered first, and once': ({ events }) =>
        events.every(({ type }, index) => (type === UserRegistered.type) === (index === 0)),
      'name and address stay those of the registration': ({ state, events: [registered] }) =>
        expect(state).toMatchObject({
          email: (registered?.data as { email: string }).email,
          name: (registered?.data as { name: string }).name,
        }),
      'whoever is deactivated stays so': ({ before }) => before.status !== 'deactivated',
      'each event changes the status': ({ before, state }) => before.status !== state.status,
    },
  });
});

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
import { apply, defineActor, handle, on, reject } from '@starter/event-sourcing';

export type UserState =
  | { readonly status: 'new' }
  | {
      readonly status: 'registered' | 'verified' | 'active' | 'deactivated';
      /** Sealed, like the others. */
      readonly email: string;
      readonly name: string;
      readonly verificationToken: string;
    }
  | { readonly status: 'erased' };

export const user = defineActor<UserState>('user', {
  initialState: { status: 'new' },
  decide: on(
    handle(RegisterUser, ({ data, message }, state) =>
      state.status === 'new' ? [UserRegistered.of({ ...data, registeredAt: new Date(message.time) })] : [],
    ),
    handle(VerifyUser, ({ data }, state) => {
      if (state.status === 'verified' || state.status === 'active') return [];
      if (state.status === 'registered') return [UserVerified.of(data)];
      return reject(state.status === 'new' ? 'the user is not registered' : `the user is ${state.status}`);
    }),
    handle(ActivateUser, ({ data }, state) => {
      if (state.status === 'active') return [];
      if (state.status === 'verified') return [UserActivated.of(data)];
      if (state.status === 'registered') return reject('the e-mail address of the user is not verified');
      return reject(state.status === 'new' ? 'the user is not registered' : `the user is ${state.status}`);
    }),
    handle(DeactivateUser, ({ data }, state) => {
      // Whoever is erased is gone for good: there is nothing left to do for a workflow that takes back what it did.
      if (state.status === 'deactivated' || state.status === 'erased') return [];
      return state.status === 'new' ? reject('the user is not registered') : [UserDeactivated.of(data)];
    }),
    handle(EraseUser, ({ data }, state) => {
      if (state.status === 'erased') return [];
      return state.status === 'new' ? reject('the user is not registered') : [UserErased.of(data)];
    }),
  ),
  evolve: on(
    apply(UserRegistered, (_, { data: { email, name, verificationToken } }) => {
      return { status: 'registered', email, name, verificationToken };
    }),
    apply(UserVerified, (state) => withStatus(state, 'verified')),
    apply(UserActivated, (state) => withStatus(state, 'active')),
    apply(UserDeactivated, (state) => withStatus(state, 'deactivated')),
    apply(UserErased, () => ({ status: 'erased' })),
  ),
});

const withStatus = (state: UserState, status: 'verified' | 'active' | 'deactivated'): UserState =>
  'email' in state ? { ...state, status } : state;

import {
  ActivateUser,
  DeactivateUser,
  RegisterUser,
  UserActivated,
  UserDeactivated,
  UserRegistered,
} from '@starter/contracts';
import { apply, defineActor, handle, on, reject } from '@starter/event-sourcing';

export type UserState =
  | { readonly status: 'new' }
  | { readonly status: 'registered' | 'active' | 'deactivated'; readonly email: string; readonly name: string };

export const user = defineActor<UserState>('user', {
  initialState: { status: 'new' },
  decide: on(
    handle(RegisterUser, ({ data, message }, state) =>
      state.status === 'new' ? [UserRegistered.of({ ...data, registeredAt: new Date(message.time) })] : [],
    ),
    handle(ActivateUser, ({ data }, state) => {
      if (state.status === 'active') return [];
      if (state.status === 'registered') return [UserActivated.of(data)];
      return reject(state.status === 'new' ? 'the user is not registered' : 'the user is deactivated');
    }),
    handle(DeactivateUser, ({ data }, state) => {
      if (state.status === 'deactivated') return [];
      return state.status === 'new' ? reject('the user is not registered') : [UserDeactivated.of(data)];
    }),
  ),
  evolve: on(
    apply(UserRegistered, (_, { data }) => ({ status: 'registered', email: data.email, name: data.name })),
    apply(UserActivated, (state) => (state.status === 'new' ? state : { ...state, status: 'active' })),
    apply(UserDeactivated, (state) => (state.status === 'new' ? state : { ...state, status: 'deactivated' })),
  ),
});

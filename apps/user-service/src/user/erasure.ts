import { UserActivated, UserDeactivated, UserErased, UserRegistered, UserVerified } from '@starter/contracts';
import { defineProjection, ignore, on, project } from '@starter/event-sourcing';
import type { PersonalData } from '@starter/personal-data';

/** Inline: the key is destroyed in the very transaction that says so, and the other services are told in it. */
export const erasure = (personalData: PersonalData) =>
  defineProjection('erasure', {
    handlers: on(
      project(UserErased, async (tx, events) => {
        await personalData.erase(
          tx,
          events.map(({ data }) => data.userId),
        );
      }),
      ignore(UserRegistered, UserVerified, UserActivated, UserDeactivated),
    ),
  });

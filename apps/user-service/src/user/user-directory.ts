import { UserActivated, UserDeactivated, UserErased, UserRegistered, UserVerified } from '@starter/contracts';
import { defineProjection, on, project, type RecordedEvent } from '@starter/event-sourcing';
import type { Statement, Transaction } from '@starter/messaging';

const insert: Statement = {
  name: 'user-directory-insert',
  text: `INSERT INTO user_directory (user_id, email, name, status, registered_at, version)
         SELECT id, email, name, 'registered', at, version
           FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::int[]) AS new (id, email, name, at, version)`,
};
const setStatus: Statement = {
  name: 'user-directory-status',
  text: `UPDATE user_directory SET status = $1, version = new.version
           FROM unnest($2::uuid[], $3::int[]) AS new (id, version) WHERE user_id = new.id`,
};

/** Follows the topic; the events of a user arrive exactly once and in order, so plain inserts and updates are enough. */
export const userDirectory = defineProjection('user-directory', {
  tables: ['user_directory'],
  handlers: on(
    project(UserRegistered, async (tx, events) => {
      await tx.query(insert, [
        events.map(({ data }) => data.userId),
        events.map(({ data }) => data.email),
        events.map(({ data }) => data.name),
        events.map(({ data }) => data.registeredAt),
        events.map(({ sequence }) => sequence),
      ]);
    }),
    project(UserVerified, (tx, events) => changeStatus(tx, events, 'verified')),
    project(UserActivated, (tx, events) => changeStatus(tx, events, 'active')),
    project(UserDeactivated, (tx, events) => changeStatus(tx, events, 'deactivated')),
    project(UserErased, (tx, events) => changeStatus(tx, events, 'erased')),
  ),
});

async function changeStatus(
  tx: Transaction,
  events: readonly RecordedEvent<{ userId: string }>[],
  status: string,
): Promise<void> {
  await tx.query(setStatus, [status, events.map(({ data }) => data.userId), events.map(({ sequence }) => sequence)]);
}

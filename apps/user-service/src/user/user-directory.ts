import { UserActivated, UserDeactivated, UserRegistered } from '@starter/contracts';
import { defineProjection, on, project, type RecordedEvent } from '@starter/event-sourcing';
import type { Statement, Transaction } from '@starter/messaging';

const insert: Statement = {
  name: 'user-directory-insert',
  text: `INSERT INTO user_directory (user_id, email, name, status, registered_at, version)
         VALUES ($1, $2, $3, 'registered', $4, $5)`,
};
const setStatus: Statement = {
  name: 'user-directory-status',
  text: `UPDATE user_directory SET status = $2, version = $3 WHERE user_id = $1`,
};

/** Follows the topic; the events of a user arrive exactly once and in order, so plain inserts and updates are enough. */
export const userDirectory = defineProjection(
  'user-directory',
  on(
    project(UserRegistered, async (tx, { data, sequence }) => {
      await tx.query(insert, [data.userId, data.email, data.name, data.registeredAt, sequence]);
    }),
    project(UserActivated, (tx, event) => changeStatus(tx, event, 'active')),
    project(UserDeactivated, (tx, event) => changeStatus(tx, event, 'deactivated')),
  ),
);

async function changeStatus(
  tx: Transaction,
  { data, sequence }: RecordedEvent<{ userId: string }>,
  status: string,
): Promise<void> {
  await tx.query(setStatus, [data.userId, status, sequence]);
}

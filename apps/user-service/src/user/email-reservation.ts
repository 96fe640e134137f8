import { UserActivated, UserDeactivated, UserRegistered } from '@starter/contracts';
import { defineProjection, ignore, on, project, reject } from '@starter/event-sourcing';
import type { Statement, Transaction } from '@starter/messaging';

export interface EmailOwner {
  readonly email: string;
  readonly userId: string;
}

// A row comes back when the address was free or is this user's already. Two users at once: the second waits for the first.
const reserve: Statement = {
  name: 'email-reserve',
  text: `INSERT INTO email_reservation AS taken (email, user_id) SELECT * FROM unnest($1::text[], $2::uuid[]) ORDER BY 1
         ON CONFLICT (email) DO UPDATE SET user_id = excluded.user_id WHERE taken.user_id = excluded.user_id
         RETURNING 1`,
};
const release: Statement = { name: 'email-release', text: `DELETE FROM email_reservation WHERE user_id = ANY($1)` };

/** Addresses that differ only in case are the same mailbox nearly everywhere. */
const normalised = (email: string): string => email.trim().toLowerCase();

/** True when every address is now its user's. */
export async function reserveEmails(tx: Transaction, owners: readonly EmailOwner[]): Promise<boolean> {
  const columns = [owners.map(({ email }) => normalised(email)), owners.map(({ userId }) => userId)];
  return (await tx.query(reserve, columns)).length === owners.length;
}

/**
 * Inline: the address is reserved in the transaction that registers the user, so that it is unique whoever sent the
 * command. The HTTP edge reserves it earlier, only to be able to answer 409; so the table is not the log's alone, and cannot
 * be rebuilt from it.
 */
export const emailReservation = defineProjection('email-reservation', {
  handlers: on(
    project(UserRegistered, async (tx, events) => {
      const owners = events.map(({ data }) => data);
      if (!(await reserveEmails(tx, owners))) return reject('the e-mail address is taken');
    }),
    project(UserDeactivated, async (tx, events) => {
      await tx.query(release, [events.map(({ data }) => data.userId)]);
    }),
    ignore(UserActivated),
  ),
});

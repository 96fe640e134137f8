import { UserDeactivated, UserRegistered } from '@starter/contracts';
import { defineProjection, on, project, reject } from '@starter/event-sourcing';
import type { Statement, Transaction } from '@starter/messaging';

// A row comes back when the address was free or is this user's already. Two users at once: the second waits for the first.
const reserve: Statement = {
  name: 'email-reserve',
  text: `INSERT INTO email_reservation AS taken (email, user_id) VALUES ($1, $2)
         ON CONFLICT (email) DO UPDATE SET user_id = excluded.user_id WHERE taken.user_id = excluded.user_id
         RETURNING 1`,
};
const release: Statement = { name: 'email-release', text: `DELETE FROM email_reservation WHERE user_id = $1` };

/** Addresses that differ only in case are the same mailbox nearly everywhere. */
const normalised = (email: string): string => email.trim().toLowerCase();

/** True when the address is now this user's. */
export async function reserveEmail(tx: Transaction, email: string, userId: string): Promise<boolean> {
  return (await tx.query(reserve, [normalised(email), userId])).length === 1;
}

/**
 * Inline: the address is reserved in the transaction that registers the user, so that it is unique whoever sent the
 * command. The HTTP edge reserves it earlier, only to be able to answer 409.
 */
export const emailReservation = defineProjection(
  'email-reservation',
  on(
    project(UserRegistered, async (tx, { data }) => {
      if (!(await reserveEmail(tx, data.email, data.userId))) return reject('the e-mail address is taken');
    }),
    project(UserDeactivated, async (tx, { data }) => {
      await tx.query(release, [data.userId]);
    }),
  ),
);

import { UserActivated, UserDeactivated, UserErased, UserRegistered, UserVerified } from '@starter/contracts';
import { defineProjection, ignore, on, project, reject, type RecordedEvent } from '@starter/event-sourcing';
import type { PersonalData, Statement, Transaction } from '@starter/messaging';

export interface EmailOwner {
  /** Of the normalised address: equal addresses are found without one of them being stored. */
  readonly fingerprint: string;
  readonly userId: string;
}

// A row comes back when the address was free or is this user's already. Two users at once: the second waits for the first.
const reserve: Statement = {
  name: 'email-reserve',
  text: `INSERT INTO email_reservation AS taken (fingerprint, user_id) SELECT * FROM unnest($1::text[], $2::uuid[]) ORDER BY 1
         ON CONFLICT (fingerprint) DO UPDATE SET user_id = excluded.user_id WHERE taken.user_id = excluded.user_id
         RETURNING 1`,
};
const release: Statement = { name: 'email-release', text: `DELETE FROM email_reservation WHERE user_id = ANY($1)` };

/** Addresses that differ only in case are the same mailbox nearly everywhere. */
export const normalised = (email: string): string => email.trim().toLowerCase();

/** True when every address is now its user's. */
export async function reserveEmails(tx: Transaction, owners: readonly EmailOwner[]): Promise<boolean> {
  const columns = [owners.map(({ fingerprint }) => fingerprint), owners.map(({ userId }) => userId)];
  return (await tx.query(reserve, columns)).length === owners.length;
}

/**
 * Inline: the address is reserved in the transaction that registers the user, so that it is unique whoever sent the
 * command. The HTTP edge reserves it earlier, only to be able to answer 409; so the table is not the log's alone, and cannot
 * be rebuilt from it.
 */
export const emailReservation = (personalData: PersonalData) =>
  defineProjection('email-reservation', {
    handlers: on(
      project(UserRegistered, async (tx, events) => {
        const emails = events.map(({ data }) => data.email);
        const fingerprints = await personalData.fingerprints(tx, emails, normalised);
        const owners = events.flatMap(({ data: { userId } }, index) => {
          const fingerprint = fingerprints[index];
          // Erased between the request and here: nobody can have the address any more.
          return fingerprint === undefined ? [] : [{ fingerprint, userId }];
        });
        if (!(await reserveEmails(tx, owners))) return reject('the e-mail address is taken');
      }),
      project(UserDeactivated, (tx, events) => free(tx, events)),
      project(UserErased, (tx, events) => free(tx, events)),
      ignore(UserVerified, UserActivated),
    ),
  });

async function free(tx: Transaction, events: readonly RecordedEvent<{ userId: string }>[]): Promise<void> {
  await tx.query(release, [events.map(({ data }) => data.userId)]);
}

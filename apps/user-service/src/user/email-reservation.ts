import { UserActivated, UserDeactivated, UserErased, UserRegistered, UserVerified } from '@starter/contracts';
import { defineProjection, ignore, on, project, reject, type RecordedEvent } from '@starter/event-sourcing';
import type { Statement, Transaction } from '@starter/messaging';
import type { PersonalData } from '@starter/personal-data';

export interface EmailOwner {
  /** Of the normalised address: equal addresses are found without one of them being stored. */
  readonly fingerprint: string;
  readonly userId: string;
}

/** How long an accepted registration keeps others from asking for its address: longer than it usually takes to be handled. */
const claimSeconds = 60;

// A row comes back when the address is free, or was claimed by a registration that has not been handled in time.
const claim: Statement = {
  name: 'email-claim',
  text: `INSERT INTO email_reservation AS taken (fingerprint, user_id, claimed_until)
         VALUES ($1, $2, now() + make_interval(secs => $3))
         ON CONFLICT (fingerprint) DO UPDATE SET user_id = excluded.user_id, claimed_until = excluded.claimed_until
         WHERE taken.claimed_until < now()
         RETURNING 1`,
};
// A row comes back when nobody else is registered with the address: a claim does not count here.
const reserve: Statement = {
  name: 'email-reserve',
  text: `INSERT INTO email_reservation AS taken (fingerprint, user_id) SELECT * FROM unnest($1::text[], $2::uuid[]) ORDER BY 1
         ON CONFLICT (fingerprint) DO UPDATE SET user_id = excluded.user_id, claimed_until = NULL
         WHERE taken.user_id = excluded.user_id OR taken.claimed_until IS NOT NULL
         RETURNING 1`,
};
const release: Statement = { name: 'email-release', text: `DELETE FROM email_reservation WHERE user_id = ANY($1)` };

/** Addresses that differ only in case are the same mailbox nearly everywhere. */
export const normalised = (email: string): string => email.trim().toLowerCase();

/**
 * For the HTTP edge, which can answer 409 because of it. It is no reservation yet: it ends by itself, whatever becomes of the
 * command. False when the address is taken, or somebody else has just asked for it; two at once: the second waits for the first.
 */
export async function claimEmail(tx: Transaction, { fingerprint, userId }: EmailOwner): Promise<boolean> {
  return (await tx.query(claim, [fingerprint, userId, claimSeconds])).length > 0;
}

/** True when every address is now its user's. */
async function reserveEmails(tx: Transaction, owners: readonly EmailOwner[]): Promise<boolean> {
  const columns = [owners.map(({ fingerprint }) => fingerprint), owners.map(({ userId }) => userId)];
  return (await tx.query(reserve, columns)).length === owners.length;
}

/**
 * Inline: the address is reserved in the transaction that registers the user, so that it is unique whoever sent the command,
 * and nothing but that event reserves it. A claim of the HTTP edge gives way to it. Claims are not in the log, so the table is
 * not rebuilt from it.
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

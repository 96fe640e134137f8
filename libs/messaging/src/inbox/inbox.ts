import type { Statement, Transaction } from '../database/transaction.js';
import type { Message } from '../message.js';

/** A message and the consumer that must let it take effect only once. */
export interface InboxKey {
  readonly consumer: string;
  readonly messageId: string;
}

// DO NOTHING, because a caught unique violation would abort the transaction. Sorted, so that two processes that were
// delivered the same messages wait for each other in the same order and never in a circle.
const insertNew: Statement = {
  name: 'inbox-insert',
  text: `INSERT INTO inbox (consumer, message_id)
         SELECT consumer, message_id FROM unnest($1::text[], $2::text[]) AS new (consumer, message_id) ORDER BY 1, 2
         ON CONFLICT DO NOTHING RETURNING consumer, message_id AS "messageId"`,
};

/**
 * Decides, inside the handlers' transaction, which of these messages take effect here: true for the first sight of a
 * message, in whatever order messages come. What it records commits or rolls back together with the effects.
 */
export async function admitOnce(tx: Transaction, keys: readonly InboxKey[]): Promise<boolean[]> {
  if (keys.length === 0) return [];
  const columns = [keys.map(({ consumer }) => consumer), keys.map(({ messageId }) => messageId)];
  const inserted = new Set((await tx.query<InboxKey & Record<string, string>>(insertNew, columns)).map(textOf));
  // Deleting makes the second copy within the call a duplicate.
  return keys.map((key) => inserted.delete(textOf(key)));
}

const textOf = ({ consumer, messageId }: InboxKey): string => `${messageId} ${consumer}`;

/** What a sequenced message is to a consumer. */
export type Admission =
  /** Handle it now. `parkedTo`: messages of the key up to this sequence may be parked; 0 = none ever was. */
  | { readonly verdict: 'new'; readonly parkedTo: number }
  /** It took effect before: do nothing. */
  | { readonly verdict: 'duplicate' }
  /** An earlier one of its key is missing: it was stored and will be handled after that one. */
  | { readonly verdict: 'parked' };

// The first of a key, or the one after the last handled. Concurrent deliveries of a key wait here for each other's commit.
const advance: Statement = {
  name: 'inbox-sequence-advance',
  text: `INSERT INTO inbox_sequence AS seen (consumer, key, sequence)
         SELECT $1, $2, $3::bigint
          WHERE $3::bigint = 1 OR EXISTS (SELECT FROM inbox_sequence WHERE consumer = $1 AND key = $2)
         ON CONFLICT (consumer, key) DO UPDATE SET sequence = excluded.sequence
          WHERE seen.sequence = excluded.sequence - 1
         RETURNING seen.parked_to::int AS parked_to`,
};

/** Gives a key its row, so that it can be locked and joined. */
export const ensureKey: Statement = {
  name: 'inbox-sequence-ensure',
  text: `INSERT INTO inbox_sequence (consumer, key, sequence) VALUES ($1, $2, 0) ON CONFLICT DO NOTHING`,
};
// Parking takes the key's row lock first: otherwise the predecessor could commit, find nobody parked, and nobody would
// ever call this one.
const lockKey: Statement = {
  name: 'inbox-sequence-lock',
  text: `SELECT sequence FROM inbox_sequence WHERE consumer = $1 AND key = $2 FOR UPDATE`,
};
const park: Statement = {
  name: 'inbox-park',
  text: `INSERT INTO inbox_parked (consumer, key, sequence, message) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
};

/**
 * The key's own row says how far messages are parked: only a row, not a look at the other table, is sure to be read in its
 * newest version by a predecessor that waited for our lock.
 */
export const raiseParkedTo: Statement = {
  name: 'inbox-parked-to',
  text: `UPDATE inbox_sequence SET parked_to = greatest(parked_to, $3::bigint) WHERE consumer = $1 AND key = $2`,
};

/**
 * Each (key, sequence) takes effect once per consumer and in order: an older one is a duplicate, the next runs, a later
 * one is parked durably. The last sequence per key is never purged, so this deduplicates without a time window.
 */
export async function admitInSequence(
  tx: Transaction,
  consumer: string,
  message: SequencedMessage,
): Promise<Admission> {
  const { subject: key, sequence } = message;
  const [next] = await tx.query<{ parked_to: number }>(advance, [consumer, key, sequence]);
  if (next) return { verdict: 'new', parkedTo: next.parked_to };
  await tx.query(ensureKey, [consumer, key]);
  const [last] = await tx.query<{ sequence: string }>(lockKey, [consumer, key]);
  const handled = Number(last?.sequence ?? 0);
  if (handled >= sequence) return { verdict: 'duplicate' };
  if (handled === sequence - 1) return admitInSequence(tx, consumer, message);
  await tx.query(park, [consumer, key, sequence, JSON.stringify(message)]);
  await tx.query(raiseParkedTo, [consumer, key, sequence]);
  return { verdict: 'parked' };
}

export type SequencedMessage = Message & { readonly subject: string; readonly sequence: number };

export const isSequenced = (message: Message): message is SequencedMessage =>
  message.subject !== undefined && message.sequence !== undefined && message.sequence >= 1;

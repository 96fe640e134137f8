import type { Statement, Transaction } from '../database/transaction.js';

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

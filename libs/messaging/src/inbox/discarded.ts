import type { Statement, Transaction } from '../database/transaction.js';
import type { Message } from '../message.js';

const insert: Statement = {
  name: 'inbox-discard',
  text: `INSERT INTO inbox_discarded (consumer, message_id, type, reason, message)
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING`,
};

/** Keeps a message that will never take effect, and why. */
export async function recordDiscarded(
  tx: Transaction,
  consumer: string,
  message: Message,
  reason: string,
): Promise<void> {
  await tx.query(insert, [consumer, message.id, message.type, reason, JSON.stringify(message)]);
}

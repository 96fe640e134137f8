import type { Statement, Transaction } from '../database/transaction.js';
import type { Message } from '../message.js';

const insert: Statement = {
  name: 'inbox-discard',
  text: `INSERT INTO inbox_discarded (consumer, message_id, type, reason, message)
         SELECT $1, * FROM unnest($2::text[], $3::text[], $4::text[], $5::json[])
         ON CONFLICT DO NOTHING RETURNING message_id`,
};

export interface Discarded {
  readonly message: Message;
  readonly reason: string;
}

/**
 * Keeps messages that will never take effect, and why.
 * @returns how many of them were not known yet: the others are second copies
 */
export async function recordDiscarded(
  tx: Transaction,
  consumer: string,
  discarded: readonly Discarded[],
): Promise<number> {
  if (discarded.length === 0) return 0;
  const rows = await tx.query(insert, [
    consumer,
    discarded.map(({ message }) => message.id),
    discarded.map(({ message }) => message.type),
    discarded.map(({ reason }) => reason),
    discarded.map(({ message }) => JSON.stringify(message)),
  ]);
  return rows.length;
}

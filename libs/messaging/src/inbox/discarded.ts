import { isDeepStrictEqual } from 'node:util';
import type { Statement, Transaction } from '../database/transaction.js';
import type { Message } from '../message.js';

const insert: Statement = {
  name: 'inbox-discard',
  text: `INSERT INTO inbox_discarded (consumer, kind, message_id, type, key, sequence, reason, message, redrivable)
         SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::json[], $9::boolean[])
         ON CONFLICT DO NOTHING RETURNING message_id`,
};

/** What its consumer receives; the successors of a sequenced one do not wait for it. */
export type DiscardedKind = 'command' | 'event' | 'sequenced-event' | 'outgoing';

export interface Discarded {
  readonly message: Message;
  readonly reason: string;
  /** It is kept as it came, so that its consumer can be given it again. Default: yes. */
  readonly redrivable?: boolean;
}

/**
 * Keeps messages that take no effect, and why.
 * @returns how many of them were not known yet: the others are second copies
 */
export async function recordDiscarded(
  tx: Transaction,
  consumer: string,
  kind: DiscardedKind,
  discarded: readonly Discarded[],
): Promise<number> {
  if (discarded.length === 0) return 0;
  const rows = await tx.query(insert, [
    consumer,
    kind,
    discarded.map(({ message }) => message.id),
    discarded.map(({ message }) => message.type),
    discarded.map(({ message }) => message.subject),
    discarded.map(({ message }) => message.sequence),
    discarded.map(({ reason }) => reason),
    discarded.map(({ message }) => JSON.stringify(message)),
    discarded.map(({ redrivable = true }) => redrivable),
  ]);
  return rows.length;
}

/** As it may be kept: without the personal data that `redact` blanks, and then it cannot be redriven. */
export function keptOf(message: Message, reason: string, redact: (message: Message) => Message): Discarded {
  const kept = redact(message);
  return { message: kept, reason, redrivable: isDeepStrictEqual(kept.data, message.data) };
}

const restore: Statement = {
  name: 'inbox-discarded-restore',
  text: `WITH gone AS (
           DELETE FROM inbox_discarded AS discarded USING unnest($1::text[], $2::text[]) AS wanted (consumer, message_id)
            WHERE discarded.consumer = wanted.consumer AND discarded.message_id = wanted.message_id AND redrivable
           RETURNING discarded.*),
              forgotten AS (
           DELETE FROM inbox USING gone WHERE inbox.consumer = gone.consumer AND inbox.message_id = gone.message_id)
         INSERT INTO dead_letter (consumer, id, kind, type, key, sequence, error_type, reason, origin, attempts,
                                  first_failed_at, failed_at, message, redrivable)
         SELECT consumer, message_id, CASE kind WHEN 'command' THEN 'command' ELSE 'event' END, type, key, sequence,
                'Discarded', reason, consumer, 1, discarded_at, discarded_at, message, true
           FROM gone ORDER BY consumer, message_id
         ON CONFLICT DO NOTHING`,
};

/** Makes dead letters of them again, unknown to the inbox. */
export async function restoreDiscarded(
  tx: Transaction,
  messages: readonly { readonly consumer: string; readonly id: string }[],
): Promise<void> {
  if (messages.length === 0) return;
  await tx.query(restore, [messages.map(({ consumer }) => consumer), messages.map(({ id }) => id)]);
}

import type { Statement, Transaction } from '../database/transaction.js';
import { unpark } from './parked.js';

const set: Statement = {
  name: 'inbox-sequence-take-over',
  text: `INSERT INTO inbox_sequence AS seen (consumer, key, sequence)
         SELECT $1, new.* FROM unnest($2::text[], $3::bigint[]) AS new (key, handled)
         ON CONFLICT (consumer, key) DO UPDATE SET sequence = excluded.sequence`,
};

/**
 * The consumer goes on behind `handled` of each key, whatever it had handled before; what is parked up to there is done. The
 * caller keeps its batches off (`holdConsumer`).
 */
export async function takeOverKeys(
  tx: Transaction,
  consumer: string,
  keys: readonly { readonly key: string; readonly handled: number }[],
): Promise<void> {
  await tx.query(set, [consumer, keys.map(({ key }) => key), keys.map(({ handled }) => handled)]);
  await unpark(tx, consumer, keys);
}

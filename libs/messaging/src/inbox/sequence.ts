import type { Statement, Transaction } from '../database/transaction.js';
import type { Message } from '../message.js';

export type SequencedMessage = Message & { readonly subject: string; readonly sequence: number };

export const isSequenced = (message: Message): message is SequencedMessage =>
  message.subject !== undefined && message.sequence !== undefined && message.sequence >= 1;

/** Messages of one key without a gap between the first and the last. */
export interface Run {
  readonly key: string;
  /** 0 = not without a gap: it only takes the key's lock. */
  readonly first: number;
  readonly last: number;
}

// One statement admits any number of keys in which all is well, and takes the row locks of all keys, sorted, so that no two
// processes ever wait for each other in a circle. What has to equal the row's sequence (`first - 1`) comes along in the
// column parked_to, because ON CONFLICT sees only what was to be inserted. A key that is not there yet and does not begin
// with its first message gets a row with a negative sequence: within this transaction it means that nothing is handled, and
// setKeys() corrects it. The advisory lock is shared by all batches of a consumer; holdConsumer keeps them off.
const advance: Statement = {
  name: 'inbox-sequence-advance',
  text: `WITH steady AS MATERIALIZED (SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 1)))
         INSERT INTO inbox_sequence AS seen (consumer, key, sequence, parked_to)
         SELECT $1, key, CASE first WHEN 1 THEN last ELSE -last END, first - 1
           FROM steady CROSS JOIN unnest($2::text[], $3::bigint[], $4::bigint[]) AS run (key, first, last) ORDER BY key
         ON CONFLICT (consumer, key) DO UPDATE SET sequence = abs(excluded.sequence)
          WHERE seen.sequence = excluded.parked_to AND seen.parked_to <= excluded.parked_to
         RETURNING key, sequence > 0 AS advanced`,
};

/**
 * Takes the next messages of many keys, each key at most once, inside the handlers' transaction: (key, sequence) takes
 * effect once per consumer and in order. The last sequence per key is never purged, so this needs no time window.
 * @returns the keys that have advanced to the end of their run; every other key is locked, and {@link keysAsTheyAre} tells why
 */
export async function advanceKeys(tx: Transaction, consumer: string, runs: readonly Run[]): Promise<Set<string>> {
  const rows = await tx.query<{ key: string; advanced: boolean }>(advance, [
    consumer,
    runs.map(({ key }) => key),
    runs.map(({ first }) => first),
    runs.map(({ last }) => last),
  ]);
  return new Set(rows.flatMap(({ key, advanced }) => (advanced ? [key] : [])));
}

/** Keeps every batch of the consumer, in all processes, off until the transaction ends; waits for those under way. */
export const holdConsumer: Statement = {
  name: 'inbox-hold-consumer',
  text: `SELECT pg_advisory_xact_lock(hashtextextended($1, 1))`,
};

export interface KeyState {
  /** Last sequence that took effect; 0 = none. */
  readonly handled: number;
  /** Highest sequence that has ever been parked. A row, unlike a look at the other table, is sure to be read in its newest version by whoever waited for its lock. */
  readonly parkedTo: number;
  /** Messages parked. */
  readonly waiting: number;
  /** No message of it has come before. */
  readonly isNew: boolean;
  /** Of the sequences asked for: those that are parked, with the attempts made. */
  readonly parked: Map<number, number>;
}

const selectKeys: Statement = {
  name: 'inbox-sequence-select',
  text: `SELECT key, sequence::float8 AS handled, parked_to::float8 AS "parkedTo", CASE WHEN parked_to > sequence THEN (
             SELECT count(*)::int FROM inbox_parked parked WHERE parked.consumer = $1 AND parked.key = seen.key
           ) ELSE 0 END AS waiting
           FROM inbox_sequence seen WHERE consumer = $1 AND key = ANY($2) AND sequence >= 0`,
};
const selectParked: Statement = {
  name: 'inbox-parked-select',
  text: `SELECT parked.key, parked.sequence::float8 AS sequence, parked.attempts
           FROM inbox_parked parked JOIN unnest($2::text[], $3::bigint[]) AS asked (key, sequence) USING (key, sequence)
          WHERE parked.consumer = $1`,
};

/** Of a key that has no row yet. */
const unseen = { handled: 0, parkedTo: 0, waiting: 0, isNew: true };

/** The keys of these messages, under the locks that {@link advanceKeys} has taken. */
export async function keysAsTheyAre(
  tx: Transaction,
  consumer: string,
  messages: readonly SequencedMessage[],
): Promise<Map<string, KeyState>> {
  const keys = messages.map(({ subject }) => subject);
  const states = new Map<string, KeyState>(keys.map((key) => [key, { ...unseen, parked: new Map() }]));
  const sequences = messages.map(({ sequence }) => sequence);
  const known = await tx.query<Omit<KeyState, 'parked' | 'isNew'> & { readonly key: string }>(selectKeys, [
    consumer,
    [...states.keys()],
  ]);
  for (const { key, ...state } of known) states.set(key, { ...state, isNew: false, parked: new Map() });
  const parked = await tx.query<{ key: string; sequence: number; attempts: number }>(selectParked, [
    consumer,
    keys,
    sequences,
  ]);
  for (const { key, sequence, attempts } of parked) states.get(key)?.parked.set(sequence, attempts);
  return states;
}

const update: Statement = {
  name: 'inbox-sequence-set',
  text: `UPDATE inbox_sequence seen SET sequence = new.handled, parked_to = new.parked_to
           FROM unnest($2::text[], $3::bigint[], $4::bigint[]) AS new (key, handled, parked_to)
          WHERE seen.consumer = $1 AND seen.key = new.key
            AND (seen.sequence, seen.parked_to) <> (new.handled, new.parked_to)`,
};

/** Where the keys are now, under the locks that {@link advanceKeys} has taken. */
export async function setKeys(
  tx: Transaction,
  consumer: string,
  keys: readonly { readonly key: string; readonly handled: number; readonly parkedTo: number }[],
): Promise<void> {
  if (keys.length === 0) return;
  await tx.query(update, [
    consumer,
    keys.map(({ key }) => key),
    keys.map(({ handled }) => handled),
    keys.map(({ parkedTo }) => parkedTo),
  ]);
}

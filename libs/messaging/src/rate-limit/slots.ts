import type { DataSource } from 'typeorm';
import { runStatement, type Statement, type Transaction } from '../database/transaction.js';
import type { Message } from '../message.js';
import type { Rate } from './rate.js';

/** What is asked for of one type. */
export interface Asked {
  readonly type: string;
  readonly rate: Rate;
  /** Messages that want to go now; nobody is granted a slot while others wait. */
  readonly wanted: number;
  /** Messages that go anyway: the slots that they take are missing later. */
  readonly owed: number;
}

export interface Granted {
  readonly type: string;
  readonly granted: number;
  /** Milliseconds until the next slot is free. */
  readonly nextInMs: number;
}

const ensure: Statement = {
  name: 'rate-limit-ensure',
  text: `INSERT INTO rate_limit_slot (type) SELECT * FROM unnest($1::text[]) ORDER BY 1 ON CONFLICT DO NOTHING`,
};

export const ensureSlots = (dataSource: DataSource, types: readonly string[]): Promise<unknown[]> =>
  runStatement(dataSource, ensure, [types]);

// The generic cell rate algorithm: next_at is when the next message would be on time, and it may come as early as the burst
// allows. The clock is the database's. If it jumps back, next_at is brought back to what it could be at most, with ten
// slots or a minute for what went anyway; the same holds after a change to a faster rate. If it jumps forward, nothing opens, because time that has passed is not saved up.
const grant = (wanted: string): string => `
  WITH asked AS (SELECT type, wanted, owed, every_ms * interval '1 millisecond' AS every, burst
                   FROM unnest($1::text[], $2::int[], $3::int[], $4::float8[], $5::int[])
                     AS asked (type, wanted, owed, every_ms, burst)),
       locked AS MATERIALIZED (SELECT type FROM rate_limit_slot WHERE type = ANY($1) ORDER BY type FOR UPDATE)
  UPDATE rate_limit_slot slot
     SET every = asked.every, burst = asked.burst, (next_at, granted) = (
           SELECT base + (granted + owed) * asked.every, granted
             FROM (SELECT base, least(wanted, 1 + greatest(-1, floor(
                     extract(epoch FROM moment + (asked.burst - 1) * asked.every - base) / extract(epoch FROM asked.every))))::int AS granted
                     FROM (SELECT moment, ${wanted} AS wanted,
                                  least(greatest(slot.next_at, moment), moment + asked.burst * asked.every + least(10 * asked.every, interval '1 minute')) AS base
                             FROM clock_timestamp() AS moment) AS now) AS counted)
    FROM asked JOIN locked USING (type)
   WHERE slot.type = asked.type
  RETURNING slot.type, granted,
            greatest(0, extract(epoch FROM next_at - (asked.burst - 1) * asked.every - clock_timestamp()) * 1000)::float8 AS "nextInMs"`;

const columns = (asked: readonly Asked[]): unknown[] => [
  asked.map(({ type }) => type),
  asked.map(({ wanted }) => wanted),
  asked.map(({ owed }) => owed),
  asked.map(({ rate }) => rate.everyMs),
  asked.map(({ rate }) => rate.burst),
];

const waitingOf = `SELECT FROM rate_limit_waiting waiting WHERE waiting.type = slot.type AND admitted_at IS NULL`;

const grantNew: Statement = {
  name: 'rate-limit-grant-new',
  text: grant(`CASE WHEN EXISTS (${waitingOf}) THEN 0 ELSE asked.wanted END`),
};

/** Slots for messages that have just come. */
export const slotsForNew = (dataSource: DataSource, asked: readonly Asked[]): Promise<Granted[]> =>
  runStatement(dataSource, grantNew, columns(asked));

// Locked by a statement of its own, so that the next one counts what waits as whoever held the lock before has left it.
const lock: Statement = {
  name: 'rate-limit-lock',
  text: `SELECT FROM rate_limit_slot WHERE type = ANY($1) ORDER BY type FOR UPDATE`,
};
const grantWaiting: Statement = {
  name: 'rate-limit-grant-waiting',
  text: grant(`(SELECT count(*)::int FROM (${waitingOf} LIMIT asked.wanted) AS waiting)`),
};
// By physical position: a join of which the planner does not know how many rows it has may read all that wait of a type.
const admit: Statement = {
  name: 'rate-limit-admit',
  text: `UPDATE rate_limit_waiting SET admitted_at = clock_timestamp()
          WHERE ctid = ANY (ARRAY(
            SELECT next.ctid FROM unnest($1::text[], $2::int[]) AS granted (type, count)
             CROSS JOIN LATERAL (SELECT ctid FROM rate_limit_waiting
                                  WHERE type = granted.type AND admitted_at IS NULL
                                  ORDER BY position LIMIT granted.count) AS next))
         RETURNING position::float8 AS position, address, message`,
};

export interface Waiting {
  /** The queue in which it came. */
  readonly address: string;
  readonly message: Message;
}

/** Those of the waiting messages that may go now, in the order in which they came. At most `wanted` of each type. */
export async function admitWaiting(
  tx: Transaction,
  asked: readonly Asked[],
): Promise<{ readonly admitted: readonly Waiting[]; readonly slots: readonly Granted[] }> {
  await tx.query(lock, [asked.map(({ type }) => type)]);
  const slots = await tx.query<Granted & Record<string, unknown>>(grantWaiting, columns(asked));
  const open = slots.filter(({ granted }) => granted > 0);
  if (open.length === 0) return { admitted: [], slots };
  const counts = [open.map(({ type }) => type), open.map(({ granted }) => granted)];
  const rows = await tx.query<Waiting & { position: number }>(admit, counts);
  return { admitted: rows.sort((one, other) => one.position - other.position), slots };
}

const selectTypes: Statement = {
  name: 'rate-limit-waiting-types',
  text: `SELECT type FROM rate_limit_slot slot WHERE EXISTS (${waitingOf})`,
};

/** Types of which something waits. */
export async function waitingTypes(dataSource: DataSource): Promise<string[]> {
  return (await runStatement<{ type: string }>(dataSource, selectTypes)).map(({ type }) => type);
}

/** A message with the number of the attempt that is to be made. */
export interface Pending extends Waiting {
  readonly attempt: number;
}

const wait: Statement = {
  name: 'rate-limit-wait',
  text: `INSERT INTO rate_limit_waiting (type, message_id, address, attempt, message)
         SELECT * FROM ROWS FROM (unnest($1::text[], $2::text[], $3::text[], $4::int[]), json_array_elements($5))
         ON CONFLICT DO NOTHING`,
};

/** Keeps messages until there is a slot for them; a second copy of one that waits leaves it where it is. */
export async function keepWaiting(dataSource: DataSource, waiting: readonly Pending[]): Promise<void> {
  await runStatement(dataSource, wait, [...columnsOf(waiting), JSON.stringify(waiting.map(({ message }) => message))]);
}

const columnsOf = (pending: readonly Pending[]): unknown[] => [
  pending.map(({ message }) => message.type),
  pending.map(({ message }) => message.id),
  pending.map(({ address }) => address),
  pending.map(({ attempt }) => attempt),
];

// A copy that waits goes with it: the message is with the broker.
const expectRetry: Statement = {
  name: 'rate-limit-expect-retry',
  text: `INSERT INTO rate_limit_waiting AS known (type, message_id, address, attempt, admitted_at, owes)
         SELECT DISTINCT ON (type, message_id) type, message_id, address, attempt, clock_timestamp(), true
           FROM unnest($1::text[], $2::text[], $3::text[], $4::int[]) AS retry (type, message_id, address, attempt)
          ORDER BY type, message_id
         ON CONFLICT (type, message_id)
         DO UPDATE SET attempt = excluded.attempt, admitted_at = excluded.admitted_at, owes = excluded.owes`,
};

/** They were let go before and come again from the broker. */
export async function expectRetries(dataSource: DataSource, retries: readonly Pending[]): Promise<void> {
  await runStatement(dataSource, expectRetry, columnsOf(retries));
}

const pass: Statement = {
  name: 'rate-limit-pass',
  text: `DELETE FROM rate_limit_waiting waiting USING unnest($1::text[], $2::text[]) AS come (type, message_id)
          WHERE waiting.type = come.type AND waiting.message_id = come.message_id AND admitted_at IS NOT NULL
         RETURNING waiting.type, waiting.message_id AS id, attempt, owes`,
};

export interface Pass {
  readonly type: string;
  /** Of the message. */
  readonly id: string;
  readonly attempt: number;
  /** It has not asked for the slot that it takes. */
  readonly owes: boolean;
}

/** What was let go of these messages, which have come again. */
export const takePasses = (
  dataSource: DataSource,
  messages: readonly Message[],
): Promise<(Pass & Record<string, unknown>)[]> =>
  runStatement(dataSource, pass, [messages.map(({ type }) => type), messages.map(({ id }) => id)]);

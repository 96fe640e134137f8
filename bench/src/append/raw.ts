import { newMessageId } from '@starter/messaging';
import type { DepositData } from '../account.js';
import { Deposit, Deposited } from '../account.js';
import { openPool } from '../connections.js';
import { writers, type EventStore } from './event-store.js';

const columns = 'stream_id, sequence, id, type, version, data, correlation_id, causation_id, command, recorded_at';
const insertOne = {
  name: 'insert-one',
  text: `INSERT INTO event (${columns}) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
};
const insertMany = {
  name: 'insert-many',
  text: `INSERT INTO event (${columns})
         SELECT * FROM unnest($1::text[], $2::bigint[], $3::uuid[], $4::text[], $5::int[], $6::jsonb[], $7::text[],
                              $8::text[], $9::text[], $10::timestamptz[])`,
};

/** What one would write by hand for this one table: a prepared statement and nothing around it. */
export async function openRaw(url: string): Promise<EventStore> {
  const pool = await openPool(url, writers);
  return {
    async append(stream, after, events) {
      const rows = events.map((data, index) => rowOf(stream, after + index + 1, data));
      await pool.query(
        rows.length === 1
          ? { ...insertOne, values: rows[0] ?? [] }
          : { ...insertMany, values: (rows[0] ?? []).map((_, column) => rows.map((row) => row[column])) },
      );
    },
    close: () => pool.end(),
  };
}

function rowOf(stream: string, sequence: number, data: DepositData): unknown[] {
  const id = newMessageId();
  return [
    ...[stream, sequence, id, Deposited.type, Deposited.version, JSON.stringify(data), id, null],
    ...[Deposit.type, new Date().toISOString()],
  ];
}

import { STREAM_DOES_NOT_EXIST, type Event } from '@event-driven-io/emmett';
import { getPostgreSQLEventStore } from '@event-driven-io/emmett-postgresql';
import { Deposited, type DepositData } from '../account.js';
import { openPool } from '../connections.js';
import { writers, type EventStore } from './event-store.js';

type DepositedEvent = Event<typeof Deposited.type, DepositData>;

/** Emmett as its documentation sets it up, with as many connections as the others have. */
export async function openEmmett(url: string): Promise<EventStore> {
  const pool = await openPool(url, writers);
  const store = getPostgreSQLEventStore(url, { connectionOptions: { pool } });
  await store.schema.migrate();
  return {
    async append(stream, after, events) {
      const typed = events.map((data): DepositedEvent => ({ type: Deposited.type, data }));
      const expectedStreamVersion = after === 0 ? STREAM_DOES_NOT_EXIST : BigInt(after);
      await store.appendToStream<DepositedEvent>(stream, typed, { expectedStreamVersion });
    },
    async close() {
      await store.close();
      if (!pool.ended) await pool.end();
    },
  };
}

import { CreateMessagingTables1760000000001, inTransaction, silentLogger, toMessage } from '@starter/messaging';
import { account, Deposited, draft, openTestDataSource, type TestDataSource } from '@starter/testing';
import { z } from 'zod';
import { CreateEventStore1760000000002 } from './create-event-store.migration.js';
import { appendEvents, loadEvents } from './event-store.js';
import { Snapshots } from './snapshots.js';

let database: TestDataSource;
beforeEach(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateEventStore1760000000002]);
});
afterEach(() => database.close());

const takeSnapshot = {
  name: 'take-snapshot',
  text: `INSERT INTO snapshot SELECT stream_id, 1, sequence, id, '{ "balance": 2 }'
           FROM event WHERE stream_id = $1 AND sequence = 2`,
};
const scansOfLog = { name: 'scans', text: `SELECT pg_stat_get_xact_numscans('event'::regclass)::int AS scans` };

// Plans are kept by the connection: one that reads the whole log is cheap only as long as there is no log.
it('never reads the whole log, not even by a plan that was made while the log was empty', async () => {
  const { dataSource } = database;
  const stream = 'account-1';
  const actor = { ...account, snapshot: { version: 1, schema: z.object({ balance: z.int() }) } };
  await inTransaction(dataSource, async (tx) => {
    await tx.query({ name: 'generic', text: `SET LOCAL plan_cache_mode = 'force_generic_plan'` });
    for (const sequence of [1, 2]) {
      const message = toMessage(draft(Deposited, { amount: 1 }), { source: 'spec', subject: stream, sequence });
      await appendEvents(tx, [{ message, command: 'spec' }]);
    }
    for await (const page of loadEvents(tx, [{ stream, sequence: 0 }])) expect(page).toHaveLength(2);
    await tx.query(takeSnapshot, [stream]);
    const snapshots = await new Snapshots(dataSource, silentLogger).load(tx, new Map([[stream, actor]]));
    expect(snapshots.get(stream)).toMatchObject({ state: { balance: 2 }, sequence: 2 });
    expect(await tx.query(scansOfLog)).toEqual([{ scans: 0 }]);
  });
});

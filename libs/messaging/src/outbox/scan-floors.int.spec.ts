import { eventually, openTestDataSource, type TestDataSource } from '@starter/testing';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { OutboxRows } from './outbox-rows.js';
import { ScanFloors } from './scan-floors.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());

it('rises under a held snapshot, but over no position that an open transaction could still commit', async () => {
  const { dataSource } = database;
  const place = { shard: 3, address: 't' };
  const reader = dataSource.createQueryRunner();
  await reader.startTransaction('REPEATABLE READ');
  await reader.query('SELECT FROM outbox');
  const writer = dataSource.createQueryRunner();
  await writer.startTransaction();
  await writer.query('SELECT pg_current_xact_id()');
  try {
    const floors = new ScanFloors(new OutboxRows(dataSource), 0);
    floors.deleted([{ ...place, position: '700' }]);
    for (let step = 0; step < 10; step += 1) await floors.raise();
    expect(floors.of(place)).toBe(0);
    await writer.commitTransaction();
    await eventually(async () => {
      await floors.raise();
      expect(floors.of(place)).toBe(700);
    });
    floors.reset();
    expect(floors.of(place)).toBe(0);
  } finally {
    await reader.rollbackTransaction();
    await Promise.all([reader.release(), writer.release()]);
  }
});

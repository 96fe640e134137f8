import { eventually, openTestDataSource, uniqueName, type TestDataSource } from '@starter/testing';
import { randomUUID } from 'node:crypto';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { silentLogger } from '../logger.js';
import { Predecessors } from './predecessors.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());

let consumer: string;
beforeEach(() => (consumer = uniqueName('consumer')));

const newProcess = async (outlivesAfterMs?: number): Promise<Predecessors> => {
  const options = { dataSource: database.dataSource, consumer, logger: silentLogger, process: randomUUID() };
  const process = new Predecessors({ ...options, ...(outlivesAfterMs === undefined ? {} : { outlivesAfterMs }) });
  await process.enter();
  return process;
};

it('knows of nobody who may have been killed while all have said that they end', async () => {
  const first = await newProcess();
  expect(await first.mayHaveDied()).toBe(false);
  await first.leave();
  const second = await newProcess();
  expect(await second.mayHaveDied()).toBe(false);
  await second.leave();
});

it('knows that somebody may, from the moment in which one that is gone would have said so, until it has lived longer', async () => {
  await newProcess();
  const next = await newProcess(50);
  expect(await next.mayHaveDied()).toBe(true);
  await eventually(async () => expect(await next.mayHaveDied()).toBe(false));
  // Of itself it leaves a trace for whoever follows.
  const last = await newProcess();
  expect(await last.mayHaveDied()).toBe(true);
  for (const process of [next, last]) await process.leave();
});

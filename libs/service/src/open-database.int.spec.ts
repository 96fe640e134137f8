import { createTestDatabase, type TestDatabase } from '@starter/testing';
import { openDatabase } from './open-database.js';

let database: TestDatabase;
beforeEach(async () => {
  database = await createTestDatabase();
});
afterEach(() => database.drop());

it('opens a database', async () => {
  const dataSource = await openDatabase({ type: 'postgres', url: database.url });
  expect(await dataSource.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  await dataSource.destroy();
});

it('names the server, without the password, and says what to do', async () => {
  const opening = openDatabase({ type: 'postgres', url: 'postgresql://someone:secret@127.0.0.1:1/database' });
  await expect(opening).rejects.toThrow(
    /^the database at 127\.0\.0\.1:1 cannot be used \(.*ECONNREFUSED.*\): start it, or correct DATABASE_URL$/,
  );
});

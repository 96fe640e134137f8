import { createTestDatabase, type TestDatabase } from '@starter/testing';
import { DataSource } from 'typeorm';
import { triage } from '../consumer/triage.js';
import { databaseOptions } from './database-options.js';
import { inTransaction, runStatement, type Transaction } from './transaction.js';
import { DatabaseBusyError, DatabaseUnavailableError, outageOf } from './unavailable.js';

let database: TestDatabase;
let dataSource: DataSource;
beforeAll(async () => {
  database = await createTestDatabase();
  dataSource = await new DataSource(databaseOptions({ url: database.url })).initialize();
});
afterAll(async () => {
  await dataSource.destroy();
  await database.drop();
});

const raising = (code: string) =>
  `DO $$ BEGIN RAISE EXCEPTION 'as the server says it' USING ERRCODE = '${code}'; END $$`;
const costsNothing = { kind: 'retry', blameless: true };

/** Every way to a statement: in a transaction, by TypeORM's manager, outside. */
const ways: readonly (readonly [string, (text: string) => Promise<unknown>])[] = [
  ['tx.query', (text) => inTransaction(dataSource, (tx) => tx.query({ name: text.slice(-20), text }))],
  ['tx.manager', (text) => inTransaction(dataSource, (tx) => tx.manager.query(text))],
  ['runStatement', (text) => runStatement(dataSource, { name: text.slice(-20), text })],
  ['the data source', (text) => dataSource.query(text)],
];
const failing = (work: Promise<unknown>): Promise<unknown> =>
  work.then(
    () => new Error('it has not failed'),
    (error: unknown) => error,
  );

describe.each(ways)('what the server says to %s', (_, run) => {
  it.each([
    ['a connection fails', '08006'],
    ['the primary has become read-only', '25006'],
    ['the disk is full', '53100'],
    ['too many connections', '53300'],
    ['it is shut down', '57P01'],
    ['a process of it has died', '57P02'],
    ['it starts', '57P03'],
    ['the database is dropped', '57P04'],
    ['input or output fails', '58030'],
    ['its configuration is broken', 'F0000'],
  ])('is an outage when %s (%s)', async (_name, code) => {
    const error = await failing(run(raising(code)));
    expect(outageOf(error)).toMatchObject({ name: 'DatabaseUnavailableError', code });
    expect(triage(error, 9, { maxRetries: 0 })).toMatchObject(costsNothing);
  });

  it.each([
    ['there is no memory', '53200'],
    ['a lock is not to be had', '55P03'],
    ['it was cancelled', '57014'],
    ['it has an internal error', 'XX000'],
    ['an index is broken', 'XX002'],
  ])('is worth trying in smaller parts when %s (%s)', async (_name, code) => {
    const error = await failing(run(raising(code)));
    expect(outageOf(error)).toMatchObject({ name: 'DatabaseBusyError', code });
    expect(triage(error, 9, { maxRetries: 0 })).toMatchObject(costsNothing);
  });

  it.each(['23505', '22P05', '42P01', '42501', '40001', '40P01', 'P0001', '22003'])(
    'is about the statement itself: %s',
    async (code) => {
      const error = await failing(run(raising(code)));
      expect(error).toMatchObject({ code });
      expect(outageOf(error)).toBeUndefined();
    },
  );
});

describe('what work throws is never an outage', () => {
  const named = (name: string, fields: object = {}) =>
    Object.assign(new Error(`${name} of its own`), { name, ...fields });
  it.each([
    ['an SMTP client that is refused', named('Error', { code: 'ECONNREFUSED' })],
    ['a name that is not found', named('Error', { code: 'ENOTFOUND' })],
    ['a pool of its own', new Error('timeout exceeded when trying to connect')],
    ['another database', named('error', { code: '57P01', severity: 'FATAL' })],
    ['a client that says so', new Error('Connection terminated unexpectedly')],
    ['a name that is ours', named('DatabaseUnavailableError')],
  ])('%s', async (_, thrown) => {
    const work = async (tx: Transaction): Promise<void> => {
      await tx.query({ name: 'one', text: 'SELECT 1' });
      throw thrown;
    };
    expect(await failing(inTransaction(dataSource, work))).toBe(thrown);
    expect(triage(thrown, 9, { maxRetries: 0 })).toMatchObject({ kind: 'dead-letter' });
  });
});

it('is an outage whatever the work makes of it, once the transaction could not be committed any more', async () => {
  const hidden = (code: string, then: (tx: Transaction) => Promise<unknown>) =>
    failing(
      inTransaction(dataSource, async (tx) => {
        await tx.manager.query(raising(code)).catch(() => undefined);
        return then(tx);
      }),
    );
  expect(await hidden('53100', async () => 'done')).toBeInstanceOf(DatabaseUnavailableError);
  expect(await hidden('57014', (tx) => tx.manager.query('SELECT 1'))).toBeInstanceOf(DatabaseBusyError);
  expect(await hidden('23505', async () => 'done')).not.toBeInstanceOf(DatabaseUnavailableError);
});

it('is an outage when somebody cancels a statement, or ends its connection', async () => {
  for (const [end, expected] of [
    ['pg_cancel_backend', DatabaseBusyError],
    ['pg_terminate_backend', DatabaseUnavailableError],
  ] as const) {
    const work = inTransaction(dataSource, async (tx) => {
      const [{ pid }] = (await tx.query<{ pid: number }>({ name: 'pid', text: 'SELECT pg_backend_pid() AS pid' })) as [
        { pid: number },
      ];
      await Promise.all([
        tx.query({ name: 'sleep', text: 'SELECT pg_sleep(60)' }),
        new Promise((resolve) => setTimeout(resolve, 50)).then(() => dataSource.query(`SELECT ${end}($1)`, [pid])),
      ]);
    });
    expect(await failing(work)).toBeInstanceOf(expected);
  }
});

describe('no connection is to be had', () => {
  const changed = (change: (url: URL) => void): string => {
    const url = new URL(database.url);
    change(url);
    return url.href;
  };
  it.each([
    ['nobody listens', (url: URL) => (url.port = '1')],
    ['its name is not found', (url: URL) => (url.hostname = 'nowhere.invalid')],
    ['there is no such database', (url: URL) => (url.pathname = '/gone')],
    ['there is no such user', (url: URL) => (url.username = 'nobody')],
    ['the password is another one now', (url: URL) => (url.password = 'rotated')],
  ])('because %s', async (_, change) => {
    const options = databaseOptions({ url: database.url, extra: { idleTimeoutMillis: 1 } });
    const rotated = await new DataSource(options).initialize();
    const { master } = rotated.driver as unknown as { master: { options: { connectionString: string } } };
    master.options.connectionString = changed(change);
    await new Promise((resolve) => setTimeout(resolve, 50));
    for (const run of [
      () => inTransaction(rotated, async () => undefined),
      () => runStatement(rotated, { name: 'one', text: 'SELECT 1' }),
      () => rotated.query('SELECT 1'),
    ]) {
      const error = await failing(run());
      expect(outageOf(error)).toMatchObject({ name: 'DatabaseUnavailableError' });
      expect(triage(error, 9, { maxRetries: 0 })).toMatchObject(costsNothing);
    }
    await rotated.destroy();
  });
});

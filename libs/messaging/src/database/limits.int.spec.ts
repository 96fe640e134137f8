import { createTestDatabase, eventually, type TestDatabase } from '@starter/testing';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { DataSource } from 'typeorm';
import { databaseOptions } from './database-options.js';
import { inTransaction, runStatement } from './transaction.js';
import { DatabaseBusyError, DatabaseUnavailableError } from './unavailable.js';

/** Between clients and the server; what it swallows it never resets. */
class SilentNetwork {
  private readonly sockets = new Set<Socket>();
  private readonly server: Server;
  private swallowed = new WeakSet<Socket>();

  constructor(upstream: URL) {
    this.server = createServer((client) => {
      const server = connect(Number(upstream.port), upstream.hostname);
      for (const [from, to] of [
        [client, server],
        [server, client],
      ] as const) {
        this.sockets.add(from);
        from.on('data', (bytes) => this.swallowed.has(client) || to.write(bytes));
        from.on('error', () => undefined);
        from.on('close', () => this.swallowed.has(client) || to.destroy());
      }
      this.links.push(client);
    });
  }

  private readonly links: Socket[] = [];

  async listen(): Promise<number> {
    this.server.listen(0, '127.0.0.1');
    await once(this.server, 'listening');
    return (this.server.address() as AddressInfo).port;
  }

  /** The connections that there are say nothing any more, to either side, for ever. New ones work. */
  loseAll(): void {
    for (const link of this.links.splice(0)) this.swallowed.add(link);
  }

  close(): void {
    this.server.close();
    this.sockets.forEach((socket) => socket.destroy());
  }
}

let database: TestDatabase;
let network: SilentNetwork;
let dataSource: DataSource;
let outside: DataSource;
const limits = { connectMs: 2_000, statementMs: 1_500, lockMs: 500, idleInTransactionMs: 1_000 };

beforeEach(async () => {
  database = await createTestDatabase();
  network = new SilentNetwork(new URL(database.url));
  const url = new URL(database.url);
  url.port = String(await network.listen());
  url.hostname = '127.0.0.1';
  dataSource = await new DataSource(databaseOptions({ url: url.href, poolSize: 4, limits })).initialize();
  outside = await new DataSource(databaseOptions({ url: database.url })).initialize();
  await outside.query('CREATE TABLE effect (name text PRIMARY KEY)');
});
afterEach(async () => {
  network.close();
  await Promise.all([dataSource.destroy(), outside.destroy()]);
  await database.drop();
});

const insert = { name: 'insert', text: 'INSERT INTO effect VALUES ($1)' };
const one = { name: 'one', text: 'SELECT 1' };

it('ends what waits on a connection that has gone silent, and every other one that has, without anybody resetting them', async () => {
  await Promise.all(Array.from({ length: 4 }, () => dataSource.query('SELECT pg_sleep(0.1)')));
  network.loseAll();
  const ends = await Promise.allSettled([
    inTransaction(dataSource, (tx) => tx.query(insert, ['a'])),
    runStatement(dataSource, one),
  ]);
  // Nobody has taken notice of the cancellation, or somebody has, on a new connection: the statement has not taken place.
  for (const end of ends) {
    expect(end).toMatchObject({ status: 'rejected', reason: expect.any(DatabaseUnavailableError) as unknown });
  }
  // The two that nobody was waiting on have gone with them.
  for (const name of ['b', 'c', 'd', 'e']) await inTransaction(dataSource, (tx) => tx.query(insert, [name]));
  expect(await outside.query('SELECT count(*)::int AS stored FROM effect')).toEqual([{ stored: 4 }]);
});

it('lets the server free the locks of a client that has vanished without a word', async () => {
  const vanished = inTransaction(dataSource, async (tx) => {
    await tx.query(insert, ['a']);
    network.loseAll();
    await tx.query(one);
  });
  await expect(vanished).rejects.toThrow(DatabaseUnavailableError);
  await outside.query(`INSERT INTO effect VALUES ('a')`);
  const open = `SELECT count(*)::int AS open FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'`;
  await eventually(async () => expect(await outside.query(open)).toEqual([{ open: 0 }]));
});

it('waits for a lock for a while only, and blames nobody', async () => {
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  const turn = `SELECT pg_advisory_xact_lock(1)`;
  const holder = outside.transaction(async (manager) => {
    await manager.query(turn);
    await released;
  });
  await eventually(() =>
    expect(inTransaction(dataSource, (tx) => tx.manager.query(turn))).rejects.toThrow(DatabaseBusyError),
  );
  release();
  await holder;
  await inTransaction(dataSource, (tx) => tx.manager.query(turn));
});

it('lets a statement take longer when its transaction says so', async () => {
  const slow = { name: 'slow', text: 'SELECT pg_sleep(2)' };
  // The server lives, which a cancellation finds out: it is this statement that takes long.
  await expect(inTransaction(dataSource, (tx) => tx.query(slow))).rejects.toThrow(DatabaseBusyError);
  await inTransaction(dataSource, (tx) => tx.query(slow), undefined, { statementMs: 60_000 });
  await expect(runStatement(dataSource, slow)).rejects.toThrow(DatabaseBusyError);
});

it('ends a transaction that does nothing, which is the fault of its work', async () => {
  const idle = inTransaction(dataSource, async (tx) => {
    await tx.query(insert, ['a']);
    await new Promise((resolve) => setTimeout(resolve, 2_000));
    await tx.query(insert, ['b']);
  });
  await expect(idle).rejects.toMatchObject({ name: 'TimeoutError', message: expect.stringContaining('did nothing') });
  expect(await outside.query('SELECT * FROM effect')).toEqual([]);
});

it('finds no connection in time', async () => {
  let release = (): void => undefined;
  const released = new Promise<void>((resolve) => (release = resolve));
  const holding = Array.from({ length: 4 }, () =>
    inTransaction(dataSource, async (tx) => {
      await tx.query(one);
      await Promise.race([released, new Promise((resolve) => setTimeout(resolve, 900))]);
      await tx.query(one);
      await Promise.race([released, new Promise((resolve) => setTimeout(resolve, 900))]);
      await tx.query(one);
      await Promise.race([released, new Promise((resolve) => setTimeout(resolve, 900))]);
    }),
  );
  await expect(runStatement(dataSource, one)).rejects.toThrow(DatabaseUnavailableError);
  release();
  await Promise.all(holding);
});

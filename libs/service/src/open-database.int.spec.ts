import type { Logger } from '@starter/messaging';
import { createTestDatabase, eventually, type TestDatabase } from '@starter/testing';
import { connect, createServer, type AddressInfo, type Server } from 'node:net';
import { openDatabase } from './open-database.js';

const lines: string[] = [];
const logger = { warn: (message: string) => void lines.push(message) } as Logger;
let database: TestDatabase;
let late: Server | undefined;

beforeEach(async () => {
  lines.length = 0;
  database = await createTestDatabase();
});
afterEach(async () => {
  late?.close();
  await database.drop();
});

/** A port on which nobody listens yet. */
async function closedPort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

const at = (port: number): string => {
  const url = new URL(database.url);
  url.host = `127.0.0.1:${port}`;
  return url.href;
};

it('waits for a database that comes up later, with one line per attempt that says what it waits for', async () => {
  const port = await closedPort();
  const opening = openDatabase({ type: 'postgres', url: at(port) }, logger);
  await eventually(() => expect(lines.length).toBeGreaterThan(1));
  const server = new URL(database.url);
  late = createServer((client) => {
    const upstream = connect(Number(server.port), server.hostname);
    client.pipe(upstream).pipe(client);
    for (const socket of [client, upstream]) socket.on('error', () => undefined);
  }).listen(port, '127.0.0.1');
  const dataSource = await opening;
  expect(await dataSource.query('SELECT 1 AS one')).toEqual([{ one: 1 }]);
  await dataSource.destroy();
  expect(new Set(lines)).toEqual(new Set([`waiting for the database at 127.0.0.1:${port}`]));
});

it('gives up in the end and says what to do', async () => {
  const port = await closedPort();
  const opening = openDatabase({ type: 'postgres', url: at(port) }, logger, { startTimeoutMs: 1 });
  await expect(opening).rejects.toThrow(/the database at 127\.0\.0\.1:\d+ cannot be used .*start it, or correct/);
});

it('does not wait for what does not come: a database that is not there', async () => {
  const opening = openDatabase({ type: 'postgres', url: `${database.url}_missing` }, logger);
  await expect(opening).rejects.toThrow(/cannot be used .*_missing/);
  expect(lines).toEqual([]);
});

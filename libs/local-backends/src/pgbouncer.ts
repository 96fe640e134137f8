import { installWithApt } from './apt.js';
import type { Backend, BackendOptions } from './backend.js';
import type { DataFolder } from './data-folder.js';
import { answers } from './network-probe.js';
import { findProgram } from './programs.js';
import { startServer, type PreparedServer } from './server-process.js';
import { unprivilegedUser } from './unprivileged-user.js';

export interface PgBouncerOptions extends BackendOptions {
  /** Of the PostgreSQL behind it. */
  readonly databaseUrl: string;
  /** Connections to each database. Default 5. */
  readonly poolSize?: number;
}

/**
 * Starts a PgBouncer that pools transactions, before all databases of a server. Its settings are those that it comes with.
 * @throws MissingPrerequisiteError when it is not installed and cannot be installed by us
 */
export async function startPgBouncer({ databaseUrl, poolSize = 5, ...options }: PgBouncerOptions): Promise<Backend> {
  const program = findProgram('pgbouncer') ?? (await install());
  const server = new URL(databaseUrl);
  const prepare = async (folder: DataFolder, [port = 0]: readonly number[]): Promise<PreparedServer> => {
    const url = new URL(databaseUrl);
    url.host = `127.0.0.1:${port}`;
    const settings = await folder.write('pgbouncer.ini', configuration(server, port, poolSize));
    return {
      url: url.href,
      command: [program, settings],
      environment: { PATH: process.env['PATH'] },
      stopSignal: 'SIGINT',
      // It answers one byte to the question for TLS.
      isReady: () => answers(port, Buffer.from([0, 0, 0, 8, 4, 210, 22, 47])),
    };
  };
  const kind = { name: 'PgBouncer', folder: 'pgbouncer', user: unprivilegedUser('postgres'), ports: 1, prepare };
  return startServer(kind, options);
}

const configuration = ({ hostname, port: serverPort, username, password }: URL, port: number, poolSize: number) => `
[databases]
* = host=${hostname} port=${serverPort} user=${decodeURIComponent(username)} password=${decodeURIComponent(password)}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = ${poolSize}
max_client_conn = 500
`;

async function install(): Promise<string> {
  await installWithApt(['pgbouncer'], {
    missing: 'PgBouncer is not installed (no `pgbouncer` on the PATH)',
    otherwise: 'on macOS `brew install pgbouncer`',
  });
  return findProgram('pgbouncer') ?? 'pgbouncer';
}

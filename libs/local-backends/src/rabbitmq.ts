import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import type { Backend, BackendOptions, TlsFiles } from './backend.js';
import type { DataFolder } from './data-folder.js';
import { installWithApt } from './apt.js';
import { answers, answersTls } from './network-probe.js';
import { findProgram } from './programs.js';
import { startServer, type PreparedServer } from './server-process.js';
import { unprivilegedUser } from './unprivileged-user.js';

/**
 * Starts a RabbitMQ node that shares nothing with any other on this machine.
 *
 * RabbitMQ 3.10 writes the name of a new quorum queue to disk up to 3 s late: a `kill` within that time leaves a queue
 * that never elects a leader. Let a declared queue be 5 s old before you kill its broker.
 * @throws MissingPrerequisiteError when RabbitMQ is not installed and cannot be installed by us
 */
export async function startRabbitMq(options: BackendOptions = {}): Promise<Backend> {
  const program = findServer() ?? (await install());
  return startServer(
    {
      name: 'RabbitMQ',
      folder: 'rabbitmq',
      user: unprivilegedUser('rabbitmq'),
      ports: 3,
      prepare: (folder, ports) => prepare(program, folder, ports, options.tls),
    },
    options,
  );
}

function findServer(): string | undefined {
  // Debian's program on the PATH insists on its system user and its system folders; this one does not.
  const debian = '/usr/lib/rabbitmq/bin/rabbitmq-server';
  return existsSync(debian) ? debian : findProgram('rabbitmq-server');
}

async function install(): Promise<string> {
  await installWithApt(['rabbitmq-server'], {
    missing: 'RabbitMQ is not installed (no `rabbitmq-server` on the PATH)',
    otherwise: 'on macOS `brew install rabbitmq`, or set RABBITMQ_URL to a running one',
  });
  return findServer() ?? 'rabbitmq-server';
}

/**
 * A retry or a dead letter that its queue refuses because it is full is offered again after so long; RabbitMQ's default is 180 s.
 * The name has an ending from RabbitMQ 4.3 on.
 */
const offerAgainMs = 10_000;

/** What is not acknowledged for so long is taken back. A task may run for 30 minutes, which is RabbitMQ's default. */
const consumerTimeoutMs = 3_600_000;

const tlsListener = async (
  folder: DataFolder,
  port: number,
  { ca, cert, key }: TlsFiles,
): Promise<string> => `listeners.tcp = none
listeners.ssl.1 = 127.0.0.1:${port}
ssl_options.cacertfile = ${await folder.copy('ca.pem', ca)}
ssl_options.certfile = ${await folder.copy('cert.pem', cert)}
ssl_options.keyfile = ${await folder.copy('key.pem', key)}
ssl_options.verify = verify_peer
ssl_options.fail_if_no_peer_cert = true`;

async function prepare(
  program: string,
  folder: DataFolder,
  ports: readonly number[],
  tls: TlsFiles | undefined,
): Promise<PreparedServer> {
  const [port = 0, distributionPort = 0, epmdPort = 0] = ports;
  const configuration = await folder.write(
    'rabbitmq.conf',
    `${tls ? await tlsListener(folder, port, tls) : `listeners.tcp.1 = 127.0.0.1:${port}`}
log.console = true
log.console.level = warning
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.relative = 0.6
raft.wal_max_size_bytes = 67108864
`,
  );
  const environment = {
    PATH: process.env['PATH'],
    LANG: 'C.UTF-8',
    // Erlang keeps its cookie there, and names the folder in its command line: that tells our process from others.
    HOME: folder.path,
    // The port mapper of Erlang nodes is ours as well, so the name needs to be unique only within this folder.
    RABBITMQ_NODENAME: 'starter@localhost',
    ERL_EPMD_ADDRESS: '127.0.0.1',
    ERL_EPMD_PORT: String(epmdPort),
    // Else every Erlang start would leave a second port mapper behind if ours is slow to come up.
    ERL_FLAGS: '-start_epmd false',
    RABBITMQ_DIST_PORT: String(distributionPort),
    RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: [
      '-kernel inet_dist_use_interface {127,0,0,1}',
      `-rabbit consumer_timeout ${consumerTimeoutMs}`,
      `-rabbit dead_letter_worker_publisher_confirm_timeout ${offerAgainMs}`,
      `-rabbit dead_letter_worker_publisher_confirm_timeout_ms ${offerAgainMs}`,
    ].join(' '),
    RABBITMQ_MNESIA_BASE: folder.file('mnesia'),
    RABBITMQ_LOG_BASE: folder.path,
    RABBITMQ_LOGS: '-',
    RABBITMQ_CONFIG_FILE: configuration,
    // Nothing of the machine's own RabbitMQ in /etc may leak in.
    RABBITMQ_CONFIG_FILES: folder.file('conf.d'),
    RABBITMQ_ADVANCED_CONFIG_FILE: folder.file('advanced.config'),
    RABBITMQ_CONF_ENV_FILE: await folder.write('rabbitmq-env.conf', ''),
    RABBITMQ_ENABLED_PLUGINS_FILE: await folder.write('enabled_plugins', '[].\n'),
  };
  return {
    url: `${tls ? 'amqps' : 'amqp'}://guest:guest@127.0.0.1:${port}`,
    command: ['/bin/sh', '-c', 'epmd -address 127.0.0.1 -port "$1" & exec "$2"', 'rabbitmq', String(epmdPort), program],
    environment,
    control: join(dirname(program), 'rabbitmqctl'),
    stopSignal: 'SIGTERM',
    isReady: () => (tls ? answersTls(port) : answers(port, Buffer.from('AMQP\0\0\x09\x01'))),
  };
}

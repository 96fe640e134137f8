import type { Backend, BackendOptions } from './backend.js';
import { installWithApt } from './apt.js';
import { answers } from './network-probe.js';
import { findProgram } from './programs.js';
import { startServer } from './server-process.js';
import { unprivilegedUser } from './unprivileged-user.js';

/**
 * Starts a Redis that keeps everything in memory and nothing on disk: what benchmarks compare with uses it.
 * @throws MissingPrerequisiteError when Redis is not installed and cannot be installed by us
 */
export async function startRedis(options: BackendOptions = {}): Promise<Backend> {
  const program = findProgram('redis-server') ?? (await install());
  return startServer(
    {
      name: 'Redis',
      folder: 'redis',
      user: unprivilegedUser('redis'),
      ports: 1,
      prepare: (_folder, [port = 0]) =>
        Promise.resolve({
          url: `redis://127.0.0.1:${port}/0`,
          command: [program, '--bind', '127.0.0.1', '--port', String(port), '--save', '', '--appendonly', 'no'],
          environment: { PATH: process.env['PATH'] },
          stopSignal: 'SIGTERM' as const,
          isReady: () => answers(port, Buffer.from('PING\r\n')),
        }),
    },
    options,
  );
}

async function install(): Promise<string> {
  await installWithApt(['redis-server'], {
    missing: 'Redis is not installed (no `redis-server` on the PATH)',
    otherwise: 'on macOS `brew install redis`, or set REDIS_URL to a running one',
  });
  return findProgram('redis-server') ?? 'redis-server';
}

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { transformFile } from '@swc/core';
import { runningProcesses } from './running-processes.js';

it('ends the server and removes its temporary folder after a kill -9 of the process that started it', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'guard-spec-'));
  const guard = await transformFile(join(import.meta.dirname, 'guard.ts'), {
    jsc: { parser: { syntax: 'typescript' } },
  });
  const starter = `${guard.code}
    const server = spawn('sleep', ['600'], { detached: true, stdio: 'ignore' });
    startGuard(server.pid, 'SIGTERM', ${JSON.stringify(folder)});
    process.stdout.write(String(server.pid), () => process.kill(process.pid, 'SIGKILL'));`;
  const { stdout, signal } = spawnSync(process.execPath, ['--input-type=module', '-e', starter], { encoding: 'utf8' });
  expect(signal).toBe('SIGKILL');

  const server = Number(stdout);
  const isLeft = () => existsSync(folder) || runningProcesses().some(({ pid }) => pid === server);
  for (const deadline = Date.now() + 10_000; isLeft() && Date.now() < deadline;) await delay(50);
  const left = isLeft();
  await rm(folder, { recursive: true, force: true });
  expect(left).toBe(false);
});

import { spawn } from 'node:child_process';
import { accessSync, constants } from 'node:fs';
import { delimiter, join } from 'node:path';
import type { Launch } from './unprivileged-user.js';

/** Absolute path of a program on the PATH or where servers are usually kept, or `undefined`. */
export function findProgram(name: string): string | undefined {
  const folders = (process.env['PATH'] ?? '').split(delimiter);
  const usual = ['/usr/sbin', '/usr/local/sbin', '/opt/homebrew/sbin', '/opt/homebrew/bin'];
  return [...folders, ...usual].map((folder) => join(folder, name)).find(isExecutable);
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/**
 * Runs a command to its end, silently; resolves to what it printed.
 * @throws Error with the end of its output when it fails
 */
export function run(
  { command, identity }: Launch,
  environment: NodeJS.ProcessEnv = process.env,
  cwd?: string,
): Promise<string> {
  const [executable = '', ...args] = command;
  return new Promise((resolve, reject) => {
    let output = '';
    const child = spawn(executable, args, { env: environment, cwd, ...identity, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text) => (output += text));
    child.once('error', reject);
    child.once('close', (code, signal) => {
      if (code === 0) resolve(output);
      else reject(new Error(`\`${command.join(' ')}\` failed (${code ?? signal}):\n${output.trimEnd().slice(-2000)}`));
    });
  });
}

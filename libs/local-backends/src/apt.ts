import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { MissingPrerequisiteError } from './backend.js';
import { run } from './programs.js';

export interface Need {
  /** What is not there. */
  readonly missing: string;
  /** What to do on other systems. */
  readonly otherwise: string;
}

let queue: Promise<unknown> = Promise.resolve();

/**
 * Installs Debian packages, one call at a time, and starts none of their services.
 * @throws MissingPrerequisiteError when we are not root, when this is no Debian, or when apt fails
 */
export function installWithApt(packages: readonly string[], need: Need): Promise<void> {
  const result = queue.then(() => install(packages, need));
  queue = result.catch(() => {});
  return result;
}

async function install(packages: readonly string[], { missing, otherwise }: Need): Promise<void> {
  const remedy = `Install it with \`sudo apt-get install --no-install-recommends ${packages.join(' ')}\` on Debian or Ubuntu; ${otherwise}.`;
  if (process.getuid?.() !== 0 || !existsSync('/etc/debian_version'))
    throw new MissingPrerequisiteError(`${missing}. ${remedy}`);
  try {
    // The package lists of a fresh machine are empty, and those of an old one name files that are gone.
    await withoutServices(() =>
      aptGet('install', packages).catch(() => aptGet('update').then(() => aptGet('install', packages))),
    );
  } catch (error) {
    throw new MissingPrerequisiteError(`${missing}, and installing it failed: ${(error as Error).message}\n${remedy}`);
  }
}

function aptGet(action: 'install' | 'update', packages: readonly string[] = []): Promise<string> {
  const options = ['-q', '-y', '-o', 'DPkg::Lock::Timeout=300', '--no-install-recommends'];
  const environment = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
  return run({ command: ['apt-get', ...options, action, ...packages], identity: {} }, environment);
}

/** Debian starts the service of a package that it installs, unless this script forbids it. */
async function withoutServices(install: () => Promise<unknown>): Promise<void> {
  const policy = '/usr/sbin/policy-rc.d';
  if (existsSync(policy)) return void (await install());
  await writeFile(policy, '#!/bin/sh\nexit 101\n', { mode: 0o755, flag: 'wx' });
  try {
    await install();
  } finally {
    await rm(policy);
  }
}

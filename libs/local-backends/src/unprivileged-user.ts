import { readFileSync, statSync } from 'node:fs';
import { dirname } from 'node:path';

export interface User {
  readonly name: string;
  readonly uid: number;
  readonly gid: number;
}

/**
 * The user that a server is to run as: when we are root, the first of `names` that exists, else `nobody`;
 * `undefined` when we are an ordinary user, who is good enough.
 */
export function unprivilegedUser(...names: string[]): User | undefined {
  if (process.getuid?.() !== 0) return undefined;
  const accounts = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map((line) => line.split(':'));
  for (const name of [...names, 'nobody']) {
    const [, , uid, gid] = accounts.find(([account]) => account === name) ?? [];
    if (uid !== undefined && gid !== undefined) return { name, uid: Number(uid), gid: Number(gid) };
  }
  throw new Error(`None of the users ${names.join(', ')}, nobody exists: create one, or do not run as root`);
}

/** What `spawn` takes to run a command as another user. */
export interface Launch {
  readonly command: readonly string[];
  readonly identity: { readonly uid?: number; readonly gid?: number };
}

/**
 * Runs `command` as `user`, even where one of `paths` lies below a folder that is closed to others, such as a clone in
 * /root: only then the process keeps root's right to disregard file modes.
 */
export function launchAs(user: User | undefined, paths: readonly string[], command: readonly string[]): Launch {
  if (!user) return { command, identity: {} };
  if (!paths.some(isClosedToOthers)) return { command, identity: { uid: user.uid, gid: user.gid } };
  // The last option makes access(2) respect that right too: initdb and Erlang ask it before they open a file.
  const identity = [`--reuid=${user.uid}`, `--regid=${user.gid}`, '--clear-groups'];
  const right = ['--inh-caps=+dac_override', '--ambient-caps=+dac_override', '--securebits=+no_setuid_fixup'];
  return { command: ['setpriv', ...identity, ...right, '--', ...command], identity: {} };
}

/** Whether only its owner passes through one of the folders above `path`. */
function isClosedToOthers(path: string): boolean {
  const parent = dirname(path);
  if ((statSync(parent).mode & 0o001) === 0) return true;
  return parent !== path && isClosedToOthers(parent);
}

import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import type { DataFolder } from './data-folder.js';
import { endGroup, runningProcesses } from './running-processes.js';

interface Owner {
  /** Process group of the server that uses the folder. */
  readonly group: number;
  /** Pid of the Node process that started it. */
  readonly owner: number;
}

/** Notes in the folder which processes use it. */
export function rememberOwner(folder: DataFolder, group: number): void {
  const owner: Owner = { group, owner: process.pid };
  const draft = folder.file('process.json.draft');
  writeFileSync(draft, JSON.stringify(owner));
  renameSync(draft, folder.file('process.json'));
}

/**
 * Ends a server that a killed process left behind on this folder.
 * @throws Error when the process that started the server still runs
 */
export async function endOrphan(folder: DataFolder): Promise<void> {
  if (!existsSync(folder.file('process.json'))) return;
  const { group, owner } = JSON.parse(readFileSync(folder.file('process.json'), 'utf8')) as Owner;
  const members = runningProcesses().filter((candidate) => candidate.group === group);
  // The number may by now belong to somebody else's process.
  if (!members.some(({ command }) => command.includes(folder.path))) return;
  if (members.some(({ pid, parent }) => pid === group && parent === owner)) {
    throw new Error(`${folder.path} is in use by process ${owner}: end that process, or choose another data folder`);
  }
  await endGroup(group, 'SIGKILL', 10_000);
}

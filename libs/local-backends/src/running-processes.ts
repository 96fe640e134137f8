import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';

export interface RunningProcess {
  readonly pid: number;
  readonly parent: number;
  /** Id of its process group, which is the pid of the group's leader. */
  readonly group: number;
  readonly command: string;
}

/** All live processes of this machine; zombies are left out. */
export function runningProcesses(): RunningProcess[] {
  // Slim images have no `ps`, macOS has no /proc.
  return existsSync('/proc/self/stat') ? fromProc() : fromPs();
}

function fromProc(): RunningProcess[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => {
      try {
        const stat = readFileSync(`/proc/${entry}/stat`, 'utf8');
        // The name in parentheses may itself contain blanks and parentheses.
        const [state, parent, group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
        if (state === 'Z') return [];
        const command = readFileSync(`/proc/${entry}/cmdline`, 'utf8').replaceAll('\0', ' ');
        return [{ pid: Number(entry), parent: Number(parent), group: Number(group), command }];
      } catch {
        return []; // It ended while we were reading.
      }
    });
}

function fromPs(): RunningProcess[] {
  return execFileSync('ps', ['-A', '-o', 'pid=,ppid=,pgid=,stat=,command='], { encoding: 'utf8' })
    .split('\n')
    .flatMap((line) => {
      const [, pid, parent, group, state, command = ''] = /^\s*(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+(.*)$/.exec(line) ?? [];
      if (pid === undefined || state?.startsWith('Z')) return [];
      return [{ pid: Number(pid), parent: Number(parent), group: Number(group), command }];
    });
}

/** The processes of a group and everything below them, also those that moved to a session of their own. */
export function processTree(group: number): RunningProcess[] {
  const all = runningProcesses();
  const tree = all.filter((candidate) => candidate.group === group);
  for (const member of tree) {
    // `tree` grows while it is walked: that makes it a breadth-first search.
    tree.push(...all.filter((candidate) => candidate.parent === member.pid && !tree.includes(candidate)));
  }
  return tree;
}

/** Sends a signal to every process of a group; nothing happens when there is none left. */
export function signalGroup(group: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-group, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/** Resolves to whether all of them have ended within `timeoutMs` milliseconds. */
export async function haveEnded(processes: readonly RunningProcess[], timeoutMs: number): Promise<boolean> {
  const deadline = Date.now() + timeoutMs;
  const pids = new Set(processes.map(({ pid }) => pid));
  while (runningProcesses().some(({ pid }) => pids.has(pid))) {
    if (Date.now() > deadline) return false;
    await delay(20);
  }
  return true;
}

/** Ends a process group and its descendants: asks with `signal`, insists with SIGKILL after `graceMs` milliseconds. */
export async function endGroup(group: number, signal: NodeJS.Signals, graceMs: number): Promise<void> {
  const tree = processTree(group);
  signalGroup(group, signal);
  if (await haveEnded(tree, graceMs)) return;
  signalGroup(group, 'SIGKILL');
  if (!(await haveEnded(tree, 10_000))) {
    throw new Error(`Processes ${tree.map(({ pid }) => pid).join(', ')} survive SIGKILL: end them by hand`);
  }
}

import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import type { Backend, BackendOptions } from './backend.js';
import { DataFolder } from './data-folder.js';
import { freePorts } from './free-ports.js';
import { startGuard } from './guard.js';
import { endGroup, runningProcesses } from './running-processes.js';
import { launchAs, type User } from './unprivileged-user.js';

const startTimeoutMs = 120_000;
const stopTimeoutMs = 10_000;

/** How to run one kind of server. */
export interface ServerKind {
  readonly name: string;
  /** Name of its folder below `BackendOptions.dataDir`. */
  readonly folder: string;
  /** As whom it runs on the data folder `path`; `undefined`: as ourselves. */
  user(path: string): User | undefined;
  /** How many ports it listens on; the first is the one that clients use. */
  readonly ports: number;
  /** Writes its configuration, and its first data into an empty folder. */
  prepare(folder: DataFolder, ports: readonly number[]): Promise<PreparedServer>;
}

export interface PreparedServer {
  readonly url: string;
  /** Executable and arguments. */
  readonly command: readonly [string, ...string[]];
  readonly environment: NodeJS.ProcessEnv;
  /** Asks it for a quick and clean end. */
  readonly stopSignal: 'SIGINT' | 'SIGTERM';
  /** Whether the server, which is process `pid`, takes requests now. */
  isReady(pid: number): Promise<boolean>;
}

/** Starts a server; takes other ports when somebody was quicker to take the chosen ones. */
export async function startServer(kind: ServerKind, options: BackendOptions): Promise<Backend> {
  const folder = await DataFolder.open(kind.folder, options.dataDir, kind.user);
  try {
    await endOrphan(folder);
    for (let attempt = 1; ; attempt++) {
      const ports = await freePorts(kind.ports);
      if (options.port !== undefined) ports[0] = options.port;
      const server = new ServerProcess(kind.name, folder, await kind.prepare(folder, ports));
      try {
        await server.start();
        return server;
      } catch (error) {
        const portTaken = /address already in use|eaddrinuse|in use by another/i.test(String(error));
        if (!portTaken || options.port !== undefined || attempt === 3) throw error;
      }
    }
  } catch (error) {
    await folder.removeIfTemporary();
    throw error;
  }
}

class ServerProcess implements Backend {
  readonly url: string;
  /** Process group of the running server, which is the pid of its first process. */
  private group: number | undefined;
  private releaseGuard = (): void => {};
  private stopping: Promise<void> | undefined;

  constructor(
    private readonly name: string,
    private readonly folder: DataFolder,
    private readonly server: PreparedServer,
  ) {
    this.url = server.url;
  }

  async start(): Promise<void> {
    if (this.stopping) throw new Error(`${this.name} was stopped: start a new one`);
    await this.end('SIGKILL'); // What is left of it, should it have crashed by itself.
    const child = this.spawn();
    const exit = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) => resolve(`exit ${code ?? signal}`));
    });
    const outcome = await Promise.race([exit, this.ready(child.pid)]);
    if (outcome === 'ready') return;
    const log = this.folder.tailOfLog();
    await this.end('SIGKILL');
    throw new Error(`${this.name} does not start (${outcome}). The end of its log:\n${log}`);
  }

  kill(): Promise<void> {
    return this.end('SIGKILL');
  }

  stop(): Promise<void> {
    this.stopping ??= this.end(this.server.stopSignal).then(() => this.folder.removeIfTemporary());
    return this.stopping;
  }

  private spawn(): ChildProcess {
    const { command, identity } = launchAs(
      this.folder.user,
      [...this.server.command.slice(0, 1), this.folder.path],
      this.server.command,
    );
    const [executable = '', ...args] = command;
    const child = this.folder.withLog((log) =>
      // A process group of its own: Ctrl-C in the terminal reaches us alone, and we end the servers in order.
      spawn(executable, args, {
        cwd: this.folder.path,
        env: this.server.environment,
        ...identity,
        detached: true,
        stdio: ['ignore', log, log],
      }),
    );
    child.unref();
    if (child.pid !== undefined) {
      this.group = child.pid;
      rememberOwner(this.folder, child.pid);
      this.releaseGuard = startGuard(
        child.pid,
        this.server.stopSignal,
        this.folder.temporary ? this.folder.path : undefined,
      );
    }
    return child;
  }

  private async ready(pid: number | undefined): Promise<string> {
    const deadline = Date.now() + startTimeoutMs;
    while (pid !== undefined && pid === this.group && Date.now() < deadline) {
      if (await this.server.isReady(pid)) return 'ready';
      await delay(50);
    }
    return `no answer in ${startTimeoutMs / 1000} s`;
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const group = this.group;
    if (group === undefined) return;
    this.group = undefined;
    await endGroup(group, signal, stopTimeoutMs);
    this.releaseGuard();
  }
}

interface Owner {
  readonly group: number;
  readonly owner: number;
}

function rememberOwner(folder: DataFolder, group: number): void {
  const owner: Owner = { group, owner: process.pid };
  const draft = folder.file('process.json.draft');
  writeFileSync(draft, JSON.stringify(owner));
  renameSync(draft, folder.file('process.json'));
}

/** Ends a server that a killed process left behind on this folder. */
async function endOrphan(folder: DataFolder): Promise<void> {
  if (!existsSync(folder.file('process.json'))) return;
  const { group, owner } = JSON.parse(readFileSync(folder.file('process.json'), 'utf8')) as Owner;
  const members = runningProcesses().filter((candidate) => candidate.group === group);
  // The number may by now belong to somebody else's process.
  if (!members.some(({ command }) => command.includes(folder.path))) return;
  if (members.some(({ pid, parent }) => pid === group && parent === owner)) {
    throw new Error(`${folder.path} is in use by process ${owner}: end that process, or choose another data folder`);
  }
  await endGroup(group, 'SIGKILL', stopTimeoutMs);
}

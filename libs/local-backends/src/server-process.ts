import { spawn, type ChildProcess } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import type { Backend, BackendOptions } from './backend.js';
import { DataFolder } from './data-folder.js';
import { endOrphan, rememberOwner } from './folder-owner.js';
import { freePorts } from './free-ports.js';
import { run } from './programs.js';
import { startGuard } from './guard.js';
import { endGroup } from './running-processes.js';
import { launchAs, type User } from './unprivileged-user.js';

const startTimeoutMs = 120_000;
const stopTimeoutMs = 10_000;

/** How to run one kind of server. */
export interface ServerKind {
  readonly name: string;
  /** Name of its folder below `BackendOptions.dataDir`. */
  readonly folder: string;
  /** As whom it runs; `undefined`: as ourselves. */
  readonly user: User | undefined;
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
  /** The program that controls it, which finds it by the same environment. */
  readonly control?: string;
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

interface RunningServer {
  readonly process: ChildProcess;
  /** Pid of the server's first process, which is also the id of its process group. */
  readonly pid: number;
  /** Resolves when that process ends, to how it ended. */
  readonly exit: Promise<string>;
  readonly dismissGuard: () => void;
}

class ServerProcess implements Backend {
  readonly url: string;
  private running: RunningServer | undefined;
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
    const running = (this.running = this.spawn());
    const outcome = await Promise.race([running.exit, this.ready(running)]);
    if (outcome === 'ready') return;
    await this.end('SIGKILL');
    throw new Error(`${this.name} does not start (${outcome}). The end of its log:\n${this.folder.tailOfLog()}`);
  }

  kill(): Promise<void> {
    return this.end('SIGKILL');
  }

  async control(...args: readonly string[]): Promise<string> {
    const { control, environment } = this.server;
    if (control === undefined) throw new Error(`${this.name} has no program to control it: use its client`);
    const { user, path } = this.folder;
    return run(launchAs(user, [control, path], [control, ...args]), environment, path);
  }

  stop(): Promise<void> {
    this.stopping ??= this.end(this.server.stopSignal).then(() => this.folder.removeIfTemporary());
    return this.stopping;
  }

  private spawn(): RunningServer {
    const { command, environment, stopSignal } = this.server;
    const launch = launchAs(this.folder.user, [command[0], this.folder.path], command);
    const [executable = '', ...args] = launch.command;
    const child = this.folder.withLog((log) =>
      spawn(executable, args, {
        cwd: this.folder.path,
        env: environment,
        ...launch.identity,
        // A process group of its own: Ctrl-C in the terminal reaches us alone, and we end the servers in order.
        detached: true,
        stdio: ['ignore', log, log],
      }),
    );
    const exit = new Promise<string>((resolve) => {
      child.once('error', (error) => resolve(error.message));
      child.once('exit', (code, signal) => resolve(`exit ${code ?? signal}`));
    });
    child.unref(); // A program that has nothing else to do may end; the guard then ends the server.
    if (child.pid === undefined) throw new Error(`${this.name} does not start: ${executable} cannot be executed`);
    rememberOwner(this.folder, child.pid);
    const temporaryFolder = this.folder.temporary ? this.folder.path : undefined;
    return { process: child, pid: child.pid, exit, dismissGuard: startGuard(child.pid, stopSignal, temporaryFolder) };
  }

  private async ready(server: RunningServer): Promise<string> {
    const deadline = Date.now() + startTimeoutMs;
    while (this.running === server && Date.now() < deadline) {
      if (await this.server.isReady(server.pid)) return 'ready';
      await delay(50);
    }
    return `no answer in ${startTimeoutMs / 1000} s`;
  }

  private async end(signal: NodeJS.Signals): Promise<void> {
    const server = this.running;
    if (!server) return;
    this.running = undefined;
    server.process.ref();
    await endGroup(server.pid, signal, stopTimeoutMs);
    // Until we have taken note of its end its pid still counts as used, and PostgreSQL would not start again.
    await server.exit;
    server.dismissGuard();
  }
}

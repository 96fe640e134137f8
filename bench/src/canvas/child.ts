import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

const running = new Set<ChildProcess>();
// Whatever ends us ends them.
process.once('exit', () => running.forEach((child) => child.kill('SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

const startTimeoutMs = 60_000;

/** A process of ours; what it says on stderr is passed on. */
export class Child {
  readonly process: ChildProcess;
  readonly exit: Promise<unknown>;

  constructor(command: readonly string[], environment: NodeJS.ProcessEnv, cwd?: string) {
    const [program = '', ...args] = command;
    const options = {
      env: { ...process.env, NODE_OPTIONS: '', ...environment },
      ...(cwd === undefined ? {} : { cwd }),
    };
    this.process = spawn(program, args, { ...options, stdio: ['pipe', 'pipe', 'inherit'] });
    running.add(this.process);
    this.exit = once(this.process, 'exit').finally(() => running.delete(this.process));
    // Whoever needs the process finds out.
    this.exit.catch(() => undefined);
  }

  /** @throws Error when it ends before `isReady`, or takes more than a minute */
  async ready(what: string, isReady: () => Promise<boolean>): Promise<this> {
    const deadline = Date.now() + startTimeoutMs;
    while (!(await isReady().catch(() => false))) {
      if (this.ended) throw new Error(`${what} has ended (${this.ended}); look for its errors above`);
      if (Date.now() > deadline) throw new Error(`${what} is not ready after ${startTimeoutMs / 1_000} s`);
      await sleep(100);
    }
    return this;
  }

  async stop(): Promise<void> {
    if (this.ended) return;
    this.process.kill('SIGTERM');
    const late = setTimeout(() => this.process.kill('SIGKILL'), 30_000);
    await this.exit;
    clearTimeout(late);
  }

  private get ended(): string | undefined {
    const { exitCode, signalCode } = this.process;
    return exitCode === null && signalCode === null ? undefined : String(signalCode ?? exitCode);
  }
}

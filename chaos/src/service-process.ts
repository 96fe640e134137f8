import type { ServiceName } from '@starter/contracts';
import { spawn, type ChildProcess } from 'node:child_process';
import { createWriteStream, type WriteStream } from 'node:fs';
import { readFile } from 'node:fs/promises';

export interface ServiceProcessOptions {
  readonly service: ServiceName;
  readonly name: string;
  /** The built main of the service. */
  readonly main: string;
  readonly environment: Readonly<Record<string, string>>;
  readonly logFile: string;
  readonly port: number;
  readonly managementPort: number;
}

/** Where memory is plenty a process takes it, whether it needs it or not; what needs more than this ends. */
const heapMiB = 128;
/** For a heap as small as that V8 makes the space of young objects so small that most of the time goes to collecting it. */
const youngMiB = 16;

const running = new Set<ChildProcess>();
// Whatever ends us ends them: they would go on for ever otherwise.
process.once('exit', () => running.forEach((child) => child.kill('SIGKILL')));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(130));

/** A service as a process of its own, started again whenever it ends, as a supervisor would. */
export class ServiceProcess {
  readonly service: ServiceName;
  readonly name: string;
  readonly url: string;
  private readonly managementUrl: string;
  private child: ChildProcess | undefined;
  private ended: Promise<void> = Promise.resolve();
  private readonly log: WriteStream;
  /** It runs, or is about to again. */
  wanted = false;
  /** `FAILPOINT` of the next lives, one each. */
  private readonly plan: string[] = [];
  /** `FAILPOINT` of every life that has no other; it counts from the next one on. */
  everyLife: string | undefined;
  /** Lives that were ended by SIGKILL. */
  kills = 0;
  /** Lives that ended in any other way without being asked to. */
  crashes = 0;
  /** Exit codes of the lives that were ended by SIGTERM. */
  readonly exits: (number | null)[] = [];

  constructor(private readonly options: ServiceProcessOptions) {
    this.service = options.service;
    this.name = options.name;
    this.url = `http://127.0.0.1:${options.port}`;
    this.managementUrl = `http://127.0.0.1:${options.managementPort}`;
    this.log = createWriteStream(options.logFile, { flags: 'a' });
  }

  get pid(): number | undefined {
    return this.child?.pid;
  }

  start(): void {
    this.wanted = true;
    this.spawn();
  }

  /** Ends it now; each of its next lives ends at the failpoint that is written here. */
  killAt(failpoints: readonly string[]): void {
    this.plan.push(...failpoints);
    this.kill();
  }

  kill(): void {
    this.child?.kill('SIGKILL');
  }

  signal(signal: NodeJS.Signals): void {
    this.child?.kill(signal);
  }

  /** Asks it to end, and does not start it again. */
  async stop(): Promise<void> {
    this.wanted = false;
    const { child } = this;
    child?.kill('SIGCONT');
    child?.kill('SIGTERM');
    const late = setTimeout(() => child?.kill('SIGKILL'), 40_000);
    await this.ended;
    clearTimeout(late);
  }

  /** It has started, and gets on with its work. */
  async ready(): Promise<boolean> {
    try {
      return (await fetch(`${this.managementUrl}/health/progress`, { signal: AbortSignal.timeout(3_000) })).ok;
    } catch {
      return false;
    }
  }

  /** What it waits for before it can begin; nothing while it does not answer. */
  async missing(): Promise<string[]> {
    const health = await this.read('health/startup').catch(() => '{}');
    const { error = {} } = JSON.parse(health) as { readonly error?: object };
    return Object.keys(error);
  }

  /** Resident memory in MiB; 0 when it does not run. */
  async memory(): Promise<number> {
    const status = await readFile(`/proc/${this.pid}/status`, 'utf8').catch(() => '');
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
  }

  /** As its metrics tell; 0 when it does not answer. */
  async commandsInHand(): Promise<number> {
    const metrics = await this.read('metrics').catch(() => '');
    return Number(
      /^messaging_deliveries_in_flight\{[^}]*consumer="[\w-]+\.commands"[^}]*\} (\d+)$/m.exec(metrics)?.[1] ?? 0,
    );
  }

  private async read(path: string): Promise<string> {
    return (await fetch(`${this.managementUrl}/${path}`, { signal: AbortSignal.timeout(1_000) })).text();
  }

  private spawn(): void {
    const failpoint = this.plan.shift() ?? this.everyLife;
    const { main, environment, port, managementPort } = this.options;
    const memory = [`--max-old-space-size=${heapMiB}`, `--max-semi-space-size=${youngMiB}`];
    const child = spawn(process.execPath, [...memory, '--enable-source-maps', main], {
      env: {
        PATH: process.env['PATH'],
        ...environment,
        PORT: String(port),
        MANAGEMENT_PORT: String(managementPort),
        ...(failpoint === undefined ? {} : { FAILPOINT: failpoint }),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    child.stdout.pipe(this.log, { end: false });
    child.stderr.pipe(this.log, { end: false });
    this.child = child;
    running.add(child);
    this.ended = new Promise((resolve) => {
      child.once('exit', (code, signal) => {
        running.delete(child);
        this.log.write(`--- ${this.name} ended: ${signal ?? code}${failpoint ? ` (${failpoint})` : ''}\n`);
        if (this.wanted) {
          if (signal === 'SIGKILL') this.kills += 1;
          else this.crashes += 1;
          // Not at once: a service that cannot start must not take the whole processor.
          setTimeout(() => this.wanted && this.spawn(), signal === 'SIGKILL' ? 0 : 500);
        } else {
          this.exits.push(code);
        }
        resolve();
      });
    });
  }
}

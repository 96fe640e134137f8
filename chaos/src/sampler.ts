import { setTimeout as sleep } from 'node:timers/promises';
import type { ServiceProcess } from './service-process.js';

/** What one process has needed. */
export interface Samples {
  /** Resident memory when the fault began, in MiB. */
  readonly startMemory: number;
  /** The highest since then, in MiB. */
  readonly mostMemory: number;
  /** Most commands in hand at the same time. */
  readonly mostInHand: number;
}

export interface Sampled {
  /** By name; only those that lived all through the fault. */
  readonly processes: Readonly<Record<string, Samples>>;
  /** How often a process has ended by itself, by name. */
  readonly crashes: Readonly<Record<string, number>>;
}

interface Watched {
  readonly instance: ServiceProcess;
  readonly pid: number;
  readonly startMemory: number;
  mostMemory: number;
  mostInHand: number;
}

const intervalMs = 500;

/** Looks again and again at the processes that run now, from outside. */
export class Sampler {
  private sampled: readonly Watched[] = [];
  private readonly crashesBefore: ReadonlyMap<ServiceProcess, number>;
  private stopping = false;
  private readonly running: Promise<void>;

  constructor(instances: readonly ServiceProcess[]) {
    this.crashesBefore = new Map(instances.map((instance) => [instance, instance.crashes]));
    this.running = this.run(instances);
  }

  async stop(): Promise<Sampled> {
    this.stopping = true;
    await this.running;
    return {
      processes: Object.fromEntries(this.sampled.map((one) => [one.instance.name, one])),
      crashes: Object.fromEntries([...this.crashesBefore].map(([one, before]) => [one.name, one.crashes - before])),
    };
  }

  private async run(instances: readonly ServiceProcess[]): Promise<void> {
    this.sampled = (await Promise.all(instances.map(begin))).flat();
    while (!this.stopping) {
      this.sampled = this.sampled.filter(({ instance, pid }) => instance.pid === pid && instance.wanted);
      await Promise.all(this.sampled.map(look));
      await sleep(intervalMs);
    }
  }
}

async function begin(instance: ServiceProcess): Promise<Watched[]> {
  const { pid } = instance;
  const memory = await instance.memory();
  if (pid === undefined || memory === 0) return [];
  return [{ instance, pid, startMemory: memory, mostMemory: memory, mostInHand: 0 }];
}

async function look(one: Watched): Promise<void> {
  const [memory, inHand] = await Promise.all([one.instance.memory(), one.instance.commandsInHand()]);
  one.mostMemory = Math.max(one.mostMemory, memory);
  one.mostInHand = Math.max(one.mostInHand, inHand);
}

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { MailReader } from '@starter/demo';
import { Baseline } from './baseline.js';
import { invariants, type Expected } from './checks.js';
import type { ExpectedWorkflow, Fault } from './fault.js';
import { Load } from './load.js';
import { Observer, type Observation, type Progress } from './observation.js';
import { Random } from './random.js';
import { Sampler } from './sampler.js';
import { startSystem, type System } from './system.js';

export interface ChaosOptions {
  readonly seed: number;
  /** Services killed in all, over the faults that kill some. */
  readonly kills: number;
  readonly faults: readonly Fault[];
  /** How long faults last, beside their usual time. */
  readonly scale: number;
  /** How long to wait until nothing is under way any more. Default 120. */
  readonly givesUpAfterSeconds?: number;
  readonly report: (line: string) => void;
}

export interface FaultResult {
  readonly fault: string;
  /** Users that were registered meanwhile. */
  readonly sent: number;
  /** Events that came of it. */
  readonly effects: number;
  /** Second copies on topics and in mailboxes, and requests that were repeated. */
  readonly duplicates: number;
  readonly kills: number;
  /** Seconds from the end of the fault until nothing was under way any more. */
  readonly recoveredIn: number;
  /** What is wrong, by invariant. */
  readonly problems: Readonly<Record<string, readonly string[]>>;
}

/** Without an operator, from the end of the fault. */
const recoveryLimitSeconds = 30;

/** Users who are under way at the same time: as many as the services onboard in some seconds. */
const mostWaiting = 500;

export const recovery = `recovered in ≤ ${recoveryLimitSeconds} s`;

/** A fault that breaks off has shown nothing. */
export const completeness = 'fault ran to its end';

export async function runChaos(options: ChaosOptions): Promise<FaultResult[]> {
  const folder = await mkdtemp(join(tmpdir(), 'chaos-'));
  const system = await startSystem(folder);
  const observer = new Observer(system);
  let kept = false;
  try {
    await observer.open();
    const campaign = new Campaign(options, system, observer);
    const results: FaultResult[] = [];
    for (const fault of options.faults) {
      const result = await campaign.run(fault);
      results.push(result);
      kept ||= Object.values(result.problems).some((problems) => problems.length > 0);
    }
    return results;
  } catch (error) {
    kept = true;
    throw error;
  } finally {
    await observer.close().catch(() => undefined);
    await system.stop();
    if (kept) options.report(`the logs of the services are in ${folder}`);
    else await rm(folder, { recursive: true, force: true });
  }
}

/** One fault after the other on the same system, so that nothing that one of them breaks stays unseen. */
export class Campaign {
  private readonly random: Random;
  private readonly load: Load;
  private readonly baseline = new Baseline();
  private readonly workflows: ExpectedWorkflow[] = [];
  private before = { accepted: 0, effects: 0, duplicates: 0 };

  constructor(
    private readonly options: ChaosOptions,
    private readonly system: System,
    private readonly observer: Pick<Observer, 'progress' | 'observe' | 'effects'>,
  ) {
    this.random = new Random(options.seed);
    const urls = () => system.instancesOf('user-service').map(({ url }) => url);
    this.load = new Load(urls, new MailReader(system.mails, urls), `chaos-${options.seed}`, 100, mostWaiting);
  }

  async run(fault: Fault): Promise<FaultResult> {
    const { options, system, observer, load, random, baseline, workflows } = this;
    const killed = () => system.instances.reduce((total, { kills }) => total + kills, 0);
    const killedBefore = killed();
    load.start(fault.clients ?? 2);
    await sleep(1_000);
    const sampler = new Sampler(system.instances);
    const { scale } = options;
    const context = { system, random, kills: this.killsOf(fault), scale, accepted: load.accepted, workflows };
    const broken = [...(await failureOf(fault.inject(context)))];
    const over = performance.now();
    broken.push(...(await failureOf(load.stop())));
    const progress = await this.settle(over);
    const recoveredIn = (performance.now() - over) / 1000;
    if (fault.cleanUp) broken.push(...(await failureOf(fault.cleanUp(system))));
    const deadLetters = baseline.deadLetters + (fault.deadLetters ?? 0);
    const expected: Expected = { accepted: load.accepted, deadLetters, workflows };
    const seen: Observation = { ...(await observer.observe()), ...(await sampler.stop()) };
    const all = Object.entries(invariants).map(([name, check]) => [name, check(seen, expected)] as const);
    const problems: Record<string, string[]> = { [completeness]: broken };
    for (const [name, some] of all) problems[name] = baseline.newOf(some);
    problems[recovery] =
      recoveredIn <= recoveryLimitSeconds ? [] : [`${recoveredIn.toFixed(0)} s; ${JSON.stringify(progress)}`];

    const effects = await observer.effects();
    const ids = new Set(seen.records.map(({ topic, id }) => `${topic} ${id}`));
    const duplicates = seen.records.length - ids.size + seen.mailCopies - seen.mails.length + load.repeated;
    const result = {
      fault: fault.name,
      sent: load.accepted.length - this.before.accepted,
      effects: effects - this.before.effects,
      duplicates: duplicates - this.before.duplicates,
      kills: killed() - killedBefore,
      recoveredIn,
      problems,
    };
    this.before = { accepted: load.accepted.length, effects, duplicates };
    const bad = Object.values(problems).flat();
    const after = baseline.isSpoilt ? ' (after a broken fault)' : '';
    baseline.keep(
      progress ?? (await observer.progress()),
      load.accepted.length,
      all.flatMap(([, some]) => some),
    );
    options.report(
      `${fault.name}${after}: ${bad.length === 0 ? 'held' : `BROKEN\n  ${bad.join('\n  ')}`}; ` +
        `${result.sent} sent, ${result.kills} kills, recovered in ${recoveredIn.toFixed(1)} s`,
    );
    return result;
  }

  private killsOf(fault: Fault): number {
    const shares = this.options.faults.reduce((total, { killShare }) => total + killShare, 0);
    return fault.killShare === 0 ? 0 : Math.max(3, Math.round((this.options.kills * fault.killShare) / shares));
  }

  /** Resolves when nothing is under way any more, or when it is too late for that. */
  private async settle(since: number): Promise<Progress | undefined> {
    const { givesUpAfterSeconds = 120 } = this.options;
    let progress: Progress | undefined;
    while (performance.now() - since < givesUpAfterSeconds * 1000) {
      progress = await this.observer.progress().catch(() => undefined);
      if (progress && this.baseline.isSettled(progress, this.load.accepted.length)) return progress;
      await sleep(250);
    }
    return progress;
  }
}

async function failureOf(work: Promise<void>): Promise<string[]> {
  try {
    await work;
    return [];
  } catch (error) {
    return [error instanceof Error ? error.message : String(error)];
  }
}

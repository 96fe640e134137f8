import { append } from './append/append.benchmark.js';
import type { Benchmark, Figures } from './benchmark.js';
import { canvas } from './canvas/canvas.benchmark.js';
import { command } from './command/command.benchmark.js';
import { event } from './event/event.benchmark.js';
import type { BenchOptions } from './options.js';
import { profiled } from './profile.js';
import { report, reportFigures } from './report.js';
import { rebuild } from './rebuild/rebuild.benchmark.js';
import { compare, measure, type Comparison, type Result } from './rounds.js';
import type { Servers } from './servers.js';
import { snapshot } from './snapshot/snapshot.benchmark.js';
import { soak } from './soak/soak.benchmark.js';

export const benchmarks: Readonly<Record<string, Benchmark>> = {
  append,
  command,
  event,
  snapshot,
  rebuild,
  soak,
  canvas,
};

/** What was measured; a benchmark with wrong work is left out, and `failed` counts it. */
export async function runBenchmarks(
  options: BenchOptions,
  servers: Servers,
  say: (line: string) => void,
): Promise<{ readonly results: (Result | Figures)[]; readonly failed: number }> {
  const results: (Result | Figures)[] = [];
  let failed = 0;
  for (const name of options.names) {
    const suite = await benchmarks[name]?.({ ...options, servers });
    for (const comparison of suite?.comparisons ?? []) {
      try {
        const settle = () => servers.settle();
        const result = await compare(comparison, { rounds: options.rounds, settle, progress: say });
        results.push(result);
        say(`\n${report(result)}`);
        if (options.profile) await profileOurs(comparison, `${name}-${results.length}`, settle, say);
      } catch (error) {
        failed += 1;
        say(`FAILED ${comparison.title}: ${(error as Error).stack ?? String(error)}`);
      }
    }
    try {
      const figures = await suite?.report?.();
      if (figures) {
        results.push(figures);
        say(`\n${reportFigures(figures)}`);
      }
    } catch (error) {
      failed += 1;
      say(`FAILED ${name}: ${(error as Error).stack ?? String(error)}`);
    }
    await suite?.close();
  }
  return { results, failed };
}

async function profileOurs(
  { variants: [ours] }: Comparison,
  name: string,
  settle: () => Promise<void>,
  say: (line: string) => void,
): Promise<void> {
  if (!ours) return;
  await measure(ours, { settle }, async (work) => {
    const { file, hottest } = await profiled(name, work);
    say(`profile of ${ours.name}: ${file}`);
    for (const { place, percent } of hottest) say(`${percent.toFixed(1).padStart(6)} %  ${place}`);
    say('');
  });
}

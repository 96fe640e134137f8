import { isDeepStrictEqual } from 'node:util';
import { median } from 'simple-statistics';
import type { Benchmark, Setting } from '../benchmark.js';
import { WrongWorkError, type Comparison, type Variant } from '../rounds.js';
import type { CanvasSystem, Done } from './canvas-system.js';
import { Celery } from './celery.js';
import { Orchestrator } from './orchestrator.js';
import { expectedOf, type Load } from './shapes.js';

interface Systems {
  readonly ours: CanvasSystem;
  readonly Celery: CanvasSystem;
}

/** Canvases on the orchestrator, which commits every hop to disk, and on Celery, which does not. */
export const canvas: Benchmark = async (setting) => {
  const { servers, profile } = setting;
  const [rabbitMq, redis] = [await servers.rabbitMq(), await servers.redis()];
  const systems = { ours: await Orchestrator.start(servers, profile), Celery: await Celery.start(rabbitMq, redis) };
  for (const system of Object.values(systems)) await warmUp(system, setting);
  return {
    comparisons: comparisonsOf(systems, setting),
    close: async () => void (await Promise.all([systems.ours.stop(), systems.Celery.stop()])),
  };
};

/** Services run for days: what their first seconds cost is not what is compared. */
async function warmUp(system: CanvasSystem, { quick }: Setting): Promise<void> {
  const [chains, members] = quick ? [5, 100] : [600, 1_000];
  for (const load of [loadOf('chain', 5, chains, 50), loadOf('chord', members, 3, 1)]) {
    system.prepare(load);
    await system.run(load);
  }
}

function loadOf(shape: Load['shape'], size: number, runs: number, outstanding: number): Load {
  return { shape, size, bases: Array.from({ length: runs }, (_, index) => index + 1), outstanding };
}

function comparisonsOf(systems: Systems, { quick }: Setting): Comparison[] {
  const load = (shape: Load['shape'], size: number, runs: number, outstanding: number): Load =>
    quick
      ? loadOf(shape, Math.min(size, 200), Math.ceil(runs / 20), outstanding)
      : loadOf(shape, size, runs, outstanding);
  const few = load('chord', 100, 50, 10);
  const many = load('chord', 10_000, 1, 1);
  return [
    both('chain(5), 50 at a time', 'chains/s', load('chain', 5, 300, 50), 3),
    both('group(10), 20 at a time', 'groups/s', load('group', 10, 100, 20)),
    both('chord(10), 20 at a time', 'chords/s', load('chord', 10, 100, 20), 3),
    both('chord(1,000), one at a time', 'chords/s', load('chord', 1_000, 2, 1), 3),
    {
      title: 'chain(5), one at a time, median of its latency',
      unit: 'ms',
      variants: pair((name, system) => variant(name, system, load('chain', 5, 50, 1), 'latency')),
      targets: [{ of: 'ours', against: 'Celery', atMost: 3 }],
    },
    {
      title: 'chord(100), 10 at a time, and chord(10,000) alone',
      unit: 'members/s',
      variants: [
        variant('ours, 10,000', systems.ours, many, 'members'),
        variant('ours, 100', systems.ours, few, 'members'),
        variant('Celery, 10,000', systems.Celery, many, 'members'),
        variant('Celery, 100', systems.Celery, few, 'members'),
      ],
      // At most 1.3 times the time per member.
      targets: [{ of: 'ours, 10,000', against: 'ours, 100', atLeast: 1 / 1.3 }],
    },
  ];

  function both(title: string, unit: string, of: Load, atLeast?: number): Comparison {
    const targets = atLeast === undefined ? [] : [{ of: 'ours', against: 'Celery', atLeast }];
    return { title, unit, variants: pair((name, system) => variant(name, system, of, 'runs')), targets };
  }

  function pair(make: (name: string, system: CanvasSystem) => Variant): Variant[] {
    return [make('ours', systems.ours), make('Celery', systems.Celery)];
  }
}

/** What is counted of a load; a latency is not counted. */
type Counted = 'runs' | 'members' | 'latency';

function variant(name: string, system: CanvasSystem, load: Load, counted: Counted): Variant {
  const operations = load.bases.length * (counted === 'members' ? load.size : 1);
  return {
    name,
    prepare() {
      let done: Done = { results: [], latencies: [] };
      system.prepare(load);
      return Promise.resolve({
        operations,
        run: async () => {
          done = await system.run(load);
        },
        ...(counted === 'latency' ? { figure: () => median([...done.latencies]) } : {}),
        verify: () => Promise.resolve(verify(load, done)),
        close: () => Promise.resolve(),
      });
    },
  };
}

function verify(load: Load, { results }: Done): void {
  const wrong = load.bases.findIndex((base, index) => !isDeepStrictEqual(results[index], expectedOf(load, base)));
  if (wrong < 0) return;
  const [is, ought] = [JSON.stringify(results[wrong]), JSON.stringify(expectedOf(load, load.bases[wrong] ?? 0))];
  throw new WrongWorkError(
    `${load.shape}(${load.size}) came to ${is?.slice(0, 200)} and not to ${ought.slice(0, 200)}`,
  );
}

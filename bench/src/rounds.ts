import { max, median, min } from 'simple-statistics';

/** One run of a variant on data of its own. */
export interface Trial {
  readonly operations: number;
  /** Begins to receive what `prepare` has left in a queue or topic; not timed. */
  attach?(): Promise<void>;
  /** The timed part: resolves when all operations are done and durable. */
  run(): Promise<void>;
  /** @throws WrongWorkError unless each operation was done exactly once */
  verify(): Promise<void>;
  /** What was measured, where that is not operations per second. */
  figure?(): number;
  /** Removes what the trial has made. */
  close(): Promise<void>;
}

export interface Variant {
  readonly name: string;
  /** Everything that is not timed: database, queue, connections. */
  prepare(): Promise<Trial>;
}

/** Median of `of` divided by median of `against`. */
export interface Target {
  readonly of: string;
  readonly against: string;
  readonly atLeast?: number;
  readonly atMost?: number;
}

export interface Comparison {
  readonly title: string;
  /** `commands/s`, `ms`. */
  readonly unit: string;
  /** The first one is ours. */
  readonly variants: readonly Variant[];
  readonly targets: readonly Target[];
}

/** A variant that skips or repeats work is not slow or fast but wrong. */
export class WrongWorkError extends Error {
  override readonly name = 'WrongWorkError';
}

export interface RoundOptions {
  readonly rounds: number;
  /** Before each trial: brings the servers to the same state. */
  readonly settle: () => Promise<void>;
  readonly progress: (line: string) => void;
}

/** Of all rounds, in the unit of the comparison. */
export interface Rates {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly rounds: readonly number[];
}

export interface Ratio extends Target {
  readonly ratio: number;
  readonly reached: boolean;
}

export interface Result {
  readonly title: string;
  readonly unit: string;
  readonly rates: Readonly<Record<string, Rates>>;
  readonly ratios: readonly Ratio[];
}

/**
 * Runs every variant once per round, each round beginning with another one: whatever slows the machine down for a while
 * meets all of them.
 * @throws WrongWorkError
 */
export async function compare(comparison: Comparison, options: RoundOptions): Promise<Result> {
  const { title, unit, variants, targets } = comparison;
  const measured = new Map<string, number[]>(variants.map(({ name }) => [name, []]));
  // A first time that does not count: the compiler of Node and the caches of the servers are cold.
  for (const variant of variants) await measure(variant, options);
  for (let round = 0; round < options.rounds; round += 1) {
    for (const variant of rotate(variants, round)) {
      const rate = await measure(variant, options);
      measured.get(variant.name)?.push(rate);
      options.progress(`${title}, round ${round + 1}: ${variant.name} ${Number(rate.toPrecision(4))} ${unit}`);
    }
  }
  const rates = Object.fromEntries([...measured].map(([name, rounds]) => [name, summary(rounds)]));
  return { title, unit, rates, ratios: targets.map((target) => ratioOf(target, rates)) };
}

/** One trial; `around` wraps the timed part. Operations per second, or the figure of the trial. */
export async function measure(
  { name, prepare }: Variant,
  { settle }: Pick<RoundOptions, 'settle'>,
  around: (work: () => Promise<void>) => Promise<void> = (work) => work(),
): Promise<number> {
  const trial = await prepare();
  try {
    await settle();
    await trial.attach?.();
    const start = performance.now();
    await around(() => trial.run());
    const seconds = (performance.now() - start) / 1000;
    await trial.verify().catch((error: unknown) => {
      throw error instanceof WrongWorkError ? new WrongWorkError(`${name}: ${error.message}`) : error;
    });
    return trial.figure?.() ?? trial.operations / seconds;
  } finally {
    await trial.close();
  }
}

const rotate = <T>(items: readonly T[], by: number): T[] => {
  const start = by % items.length;
  return [...items.slice(start), ...items.slice(0, start)];
};

const summary = (rounds: number[]): Rates => ({ median: median(rounds), min: min(rounds), max: max(rounds), rounds });

function ratioOf(target: Target, rates: Record<string, Rates>): Ratio {
  const { of, against, atLeast = 0, atMost = Infinity } = target;
  const ratio = (rates[of]?.median ?? NaN) / (rates[against]?.median ?? NaN);
  return { ...target, ratio, reached: ratio >= atLeast && ratio <= atMost };
}

import { parseArgs } from 'node:util';

export interface BenchOptions {
  readonly names: readonly string[];
  readonly rounds: number;
  readonly quick: boolean;
  readonly seed: number;
  readonly profile: boolean;
  readonly json?: string;
}

export const usage = (names: readonly string[]): string => `npm run bench -- [benchmark …] [options]
  benchmarks: ${names.join(', ')} (default: all)
  --rounds N    rounds of every comparison (default 5)
  --quick       little work: shows that every variant does all of it, not how fast
  --seed N      of the data (default 1)
  --profile     one more run of ours under the profiler of Node: data/bench/*.cpuprofile and its hottest functions
  --json FILE   writes the results there as well
  --help
Servers: DATABASE_URL, RABBITMQ_URL, KAFKA_BROKERS and REDIS_URL, else they are started.`;

/** @throws Error with the usage when an option is unknown or wrong */
export function parseOptions(args: readonly string[], known: readonly string[]): BenchOptions | 'help' {
  try {
    const { values, positionals } = parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        rounds: { type: 'string', default: '5' },
        quick: { type: 'boolean', default: false },
        seed: { type: 'string', default: '1' },
        profile: { type: 'boolean', default: false },
        json: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    });
    if (values.help) return 'help';
    const unknown = positionals.find((name) => !known.includes(name));
    if (unknown !== undefined) throw new Error(`there is no benchmark ${unknown}`);
    return {
      names: positionals.length > 0 ? positionals : known,
      rounds: wholeNumber('rounds', values.rounds),
      quick: values.quick,
      seed: wholeNumber('seed', values.seed),
      profile: values.profile,
      ...(values.json === undefined ? {} : { json: values.json }),
    };
  } catch (error) {
    throw new Error(`${(error as Error).message}\n\n${usage(known)}`, { cause: error });
  }
}

function wholeNumber(name: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1) throw new Error(`--${name} is a whole number from 1, not ${text}`);
  return value;
}

import type { Comparison } from './rounds.js';
import type { Servers } from './servers.js';

export interface Setting {
  readonly servers: Servers;
  /** Of everything that is random. */
  readonly seed: number;
  /** Little work: shows that all of it is done, not how fast. */
  readonly quick: boolean;
  /** Processes that a benchmark starts write their CPU profiles as well. */
  readonly profile: boolean;
}

/** What was measured of one thing alone. */
export interface Figures {
  readonly title: string;
  readonly figures: Readonly<Record<string, number>>;
}

export interface Suite {
  readonly comparisons: readonly Comparison[];
  /** What cannot be compared is only reported. @throws WrongWorkError */
  readonly report?: () => Promise<Figures>;
  /** Removes what the comparisons have shared. */
  close(): Promise<void>;
}

export type Benchmark = (setting: Setting) => Promise<Suite>;

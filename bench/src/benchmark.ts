import type { Comparison } from './rounds.js';
import type { Servers } from './servers.js';

export interface Setting {
  readonly servers: Servers;
  /** Of everything that is random. */
  readonly seed: number;
  /** Little work: shows that all of it is done, not how fast. */
  readonly quick: boolean;
}

export interface Suite {
  readonly comparisons: readonly Comparison[];
  /** Removes what the comparisons have shared. */
  close(): Promise<void>;
}

export type Benchmark = (setting: Setting) => Promise<Suite>;

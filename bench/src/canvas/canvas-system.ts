import type { Load } from './shapes.js';

/** What has come of a {@link Load}. */
export interface Done {
  /** In the order of the bases; numbers. */
  readonly results: readonly unknown[];
  /** From the request to the result, by run, in milliseconds. */
  readonly latencies: readonly number[];
}

/** Something that runs canvases, and is running. */
export interface CanvasSystem {
  /** Everything that is not timed. */
  prepare(load: Load): void;
  run(load: Load): Promise<Done>;
  stop(): Promise<void>;
}

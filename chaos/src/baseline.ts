import type { Progress } from './observation.js';

/** What must come to rest. */
interface Unsettled extends Omit<Progress, 'active' | 'deadLetters'> {
  /** Users that are accepted, and not active yet. */
  readonly users: number;
}

const nothing: Unsettled = { users: 0, running: 0, outbox: 0, parked: 0, ready: 0, lag: 0 };

/** What the faults so far have left behind: those that follow are not blamed for it. */
export class Baseline {
  /** Open dead letters, made on purpose or not. */
  deadLetters = 0;
  private left = nothing;
  private known: ReadonlySet<string> = new Set();

  /** Something was left, so that what is seen from now on says less. */
  get isSpoilt(): boolean {
    return this.known.size > 0;
  }

  /** Nothing is under way but what lay about before. */
  isSettled(progress: Progress, accepted: number): boolean {
    const now = unsettledIn(progress, accepted);
    return keysOf(now).every((what) => now[what] <= this.left[what]);
  }

  newOf(problems: readonly string[]): string[] {
    return problems.filter((problem) => !this.known.has(problem));
  }

  /** After a fault; `problems` are all that were seen, new or not. */
  keep(progress: Progress, accepted: number, problems: readonly string[]): void {
    this.left = unsettledIn(progress, accepted);
    this.deadLetters = progress.deadLetters;
    this.known = new Set(problems);
  }
}

function unsettledIn({ active, deadLetters: _, ...rest }: Progress, accepted: number): Unsettled {
  return { ...rest, users: Math.abs(accepted - active) };
}

const keysOf = <T extends object>(value: T) => Object.keys(value) as (keyof T)[];

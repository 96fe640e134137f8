/** What the last look at the load has led to; `normal` also when there is nothing to change. */
export type FlowState = 'slow_down' | 'normal' | 'speed_up';

export interface FlowBounds {
  /** The limit never falls below it. Default 1. */
  readonly floor?: number;
  /** The limit never rises above it. */
  readonly ceiling: number;
  /** Default: the ceiling. */
  readonly initial?: number;
}

/**
 * How much may be in hand, by how loaded whatever is behind it is: half above the high mark, half as much again under 30 % of
 * it. A load that goes with the limit comes to rest: halved it is still above 30 %, and raised it is still below the mark.
 */
export class FlowController {
  state: FlowState = 'normal';
  private readonly floor: number;
  private readonly ceiling: number;
  /** Kept with its fraction, or a limit of 1 would never grow. */
  private exact: number;

  constructor({ floor = 1, ceiling, initial = ceiling }: FlowBounds) {
    this.floor = Math.min(floor, ceiling);
    this.ceiling = ceiling;
    this.exact = this.within(initial);
  }

  /** A whole number between floor and ceiling. */
  get limit(): number {
    return Math.floor(this.exact);
  }

  /** @param load relative to the high mark: 1 is at the mark. What is not a number counts as no load. */
  observe(load: number): FlowState {
    const before = this.exact;
    if (load > 1) this.exact = this.within(before * 0.5);
    else if (!(load >= 0.3)) this.exact = this.within(before * 1.5);
    this.state = load > 1 ? 'slow_down' : this.exact > before ? 'speed_up' : 'normal';
    return this.state;
  }

  private within(limit: number): number {
    return Math.min(this.ceiling, Math.max(this.floor, limit));
  }
}

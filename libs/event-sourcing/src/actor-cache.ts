import { LRUCache } from 'lru-cache';

export interface Loaded<State> {
  readonly state: State;
  /** Sequence of the last event folded in; 0 = nothing has happened yet. */
  readonly sequence: number;
}

/** States of the actors used last. What it holds may be stale: the append's version check finds out. */
export class ActorCache {
  private readonly states: LRUCache<string, Loaded<unknown>>;

  constructor(maxActors: number) {
    this.states = new LRUCache({ max: maxActors });
  }

  get<State>(stream: string): Loaded<State> | undefined {
    return this.states.get(stream) as Loaded<State> | undefined;
  }

  set(stream: string, loaded: Loaded<unknown>): void {
    this.states.set(stream, loaded);
  }

  drop(stream: string): void {
    this.states.delete(stream);
  }
}

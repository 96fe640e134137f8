import { LRUCache } from 'lru-cache';
import type { Actor } from './actor.js';

export interface Loaded<State> {
  readonly state: State;
  /** Sequence of the last event folded in; 0 = nothing has happened yet. */
  readonly sequence: number;
  /** Id of that event. */
  readonly eventId?: string;
  /** Sequence of the last snapshot known of; 0 = none. */
  readonly snapshotAt?: number;
  /** How long the load took that this state came from, in milliseconds. */
  readonly loadMs?: number;
}

export interface ActorCacheOptions {
  /** Actors kept in memory; beyond it the one not used for longest goes. Default 10 000. */
  readonly cachedActors?: number;
  /**
   * Memory that the states may take in all, as their actors say (`sizeOf`). Where they do not, it is guessed from the number of
   * events, and no actor counts for more than a tenth. Default 128 000 000.
   */
  readonly cachedBytes?: number;
  /** An actor that has had no command for so long is passivated: it leaves memory. Default 10 minutes. */
  readonly idleMs?: number;
}

const guessedEventBytes = 500;

/** States of the actors used last. What it holds may be stale: the append's version check finds out. */
export class ActorCache {
  private readonly states: LRUCache<string, Loaded<unknown>>;
  private readonly cachedBytes: number;
  private readonly sweeper: NodeJS.Timeout;
  /** Actors that left memory because they were idle or because there was no room. */
  passivated = 0;

  constructor({ cachedActors = 10_000, cachedBytes = 128_000_000, idleMs = 600_000 }: ActorCacheOptions = {}) {
    this.cachedBytes = cachedBytes;
    this.states = new LRUCache({
      max: cachedActors,
      maxSize: cachedBytes,
      ttl: idleMs,
      updateAgeOnGet: true,
      dispose: (_, __, why) => {
        if (why === 'evict' || why === 'expire') this.passivated += 1;
      },
    });
    // Without it an idle actor would stay until somebody asks for it.
    this.sweeper = setInterval(() => this.states.purgeStale(), Math.max(10, idleMs / 4)).unref();
  }

  get size(): number {
    return this.states.size;
  }

  get<State>(stream: string): Loaded<State> | undefined {
    return this.states.get(stream) as Loaded<State> | undefined;
  }

  set(actor: Actor<unknown>, stream: string, loaded: Loaded<unknown>): void {
    const { cachedBytes } = this;
    const known = actor.sizeOf?.(loaded.state);
    const bytes = known ?? Math.min(loaded.sequence * guessedEventBytes, cachedBytes / 10);
    // What is larger than all of the room would not be kept at all, and read from the log for every command.
    this.states.set(stream, loaded, { size: Math.max(1, Math.min(Math.ceil(bytes), cachedBytes)) });
  }

  drop(stream: string): void {
    this.states.delete(stream);
  }

  close(): void {
    clearInterval(this.sweeper);
    this.states.clear();
  }
}

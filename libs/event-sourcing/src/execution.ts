import type { Fence, InboxKey, Message } from '@starter/messaging';
import type { Actor, Command, RecordedEvent } from './actor.js';
import type { Loaded } from './actor-cache.js';

export interface Execution {
  /** Id of the actor, without the actor's name. */
  readonly id: string;
  readonly command: Command;
  /** The message that led here takes effect once; without it the command takes effect each time it is executed. */
  readonly once?: InboxKey;
  /** Of the attempt on whose behalf it is executed: once that is over, nothing is stored. */
  readonly fence?: Fence | undefined;
  /** Whom to tell what came of it, when that one asked for a reply; none = nobody is told. */
  readonly answers?: {
    readonly request: Message;
    /** The events that are stored say that the request has failed, for this reason. */
    readonly failure?: string;
  };
}

/** An execution on its way through mailbox and batch. */
export interface Work {
  readonly actor: Actor<unknown>;
  readonly stream: string;
  readonly execution: Execution;
}

/** What a command comes to in a batch; it counts once the transaction is committed. */
export type Verdict = { readonly work: Work } & (
  | {
      readonly kind: 'applied';
      readonly messages: readonly Message[];
      readonly events: readonly RecordedEvent[];
      /** The actor's state before. */
      readonly before: unknown;
      /** The actor afterwards. */
      readonly loaded: Loaded<unknown>;
    }
  | { readonly kind: 'rejected'; readonly reason: string }
  | { readonly kind: 'duplicate' }
  /** Nothing of it is stored. */
  | { readonly kind: 'failed'; readonly error: unknown }
);

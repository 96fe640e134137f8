import type { AmqpMessage } from './amqp-envelope.js';
import type { Addressed } from './publication-errors.js';

/** An exchange and a routing key. One without a majority must not take the window of the others. */
export class Destination {
  readonly waiting = new PublicationQueue();
  inFlight = 0;
  /** It let a message pass its time: until it confirms one, it gets one at a time. */
  silent = false;
  /** It stands among those that may send. */
  listed = false;
  usedAt = 0;
}

/** A message that its sender waits for. It is its own node in the lists in which it stands: there are many of them. */
export class Publication implements Addressed {
  state: 'waiting' | 'written' | 'ended' = 'waiting';
  /** The channel was closed because of it or of another one that was written. */
  suspect = false;
  /** The broker has sent it back: no queue is bound. */
  returned = false;
  readonly since = performance.now();
  next: Publication | undefined;
  older: Publication | undefined;
  newer: Publication | undefined;

  constructor(
    readonly exchange: string,
    readonly routingKey: string,
    readonly message: AmqpMessage,
    readonly destination: Destination,
    readonly resolve: () => void,
    readonly reject: (error: Error) => void,
  ) {}
}

/** First in, first out. */
export class PublicationQueue {
  first: Publication | undefined;
  private last: Publication | undefined;

  push(publication: Publication): void {
    publication.next = undefined;
    if (this.last) this.last.next = publication;
    else this.first = publication;
    this.last = publication;
  }

  /** Puts it back in front of all others. */
  unshift(publication: Publication): void {
    publication.next = this.first;
    this.first = publication;
    this.last ??= publication;
  }

  shift(): Publication | undefined {
    const { first } = this;
    if (!first) return undefined;
    this.first = first.next;
    first.next = undefined;
    if (!this.first) this.last = undefined;
    return first;
  }
}

/** All that have not ended, in the order of their calls. They have the same time, so it is the order of their deadlines too. */
export class OpenPublications {
  size = 0;
  oldest: Publication | undefined;
  private newest: Publication | undefined;

  add(publication: Publication): void {
    publication.older = this.newest;
    if (this.newest) this.newest.newer = publication;
    else this.oldest = publication;
    this.newest = publication;
    this.size += 1;
  }

  remove(publication: Publication): void {
    const { older, newer } = publication;
    publication.older = publication.newer = undefined;
    if (older) older.newer = newer;
    else this.oldest = newer;
    if (newer) newer.older = older;
    else this.newest = older;
    this.size -= 1;
  }
}

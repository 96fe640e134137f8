import { HttpStatus } from '@nestjs/common';
import { ProblemException } from './problem.js';

/** A request as `@Req()` gives it. */
export interface WaitingRequest {
  /** Aborts when the client leaves from now on. */
  readonly signal: AbortSignal;
  /** The client has left already. */
  readonly raw: { readonly destroyed: boolean };
}

export interface Wait {
  /** Aborts when the client has left or the service stops: answer what is known by now. */
  readonly signal: AbortSignal;
  /** To be called once, when the request is answered. */
  end(): void;
}

/** Seconds. */
const retryAfter = 5;

/** Requests that are answered when something has happened: so many and no more, and none when the service stops. */
export class Waits {
  private readonly open = new Set<AbortController>();
  private stopped = false;

  constructor(private readonly most: number) {}

  get size(): number {
    return this.open.size;
  }

  /** @throws ProblemException 503 when too many wait */
  begin({ signal: left, raw }: WaitingRequest): Wait {
    if (this.open.size >= this.most) {
      const detail = `${this.most} requests wait already; send this one again later, or without a wait.`;
      throw new ProblemException(HttpStatus.SERVICE_UNAVAILABLE, detail, { retryAfter });
    }
    const controller = new AbortController();
    const end = () => {
      left.removeEventListener('abort', leave);
      this.open.delete(controller);
    };
    // Nobody may be there to call `end`: a stream is not even begun for a client that has left before its first event.
    const leave = () => {
      controller.abort();
      end();
    };
    left.addEventListener('abort', leave);
    this.open.add(controller);
    if (left.aborted || raw.destroyed) leave();
    if (this.stopped) controller.abort();
    return { signal: controller.signal, end };
  }

  /** @throws ProblemException 503 when too many wait, and what `work` throws */
  async during<T>(request: WaitingRequest, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const { signal, end } = this.begin(request);
    try {
      return await work(signal);
    } finally {
      end();
    }
  }

  /** Ends those that wait, and whoever comes later does not begin to. */
  stop(): void {
    this.stopped = true;
    for (const controller of this.open) controller.abort();
  }
}

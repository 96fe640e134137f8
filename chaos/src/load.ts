import type { MailReader } from '@starter/demo';
import { setTimeout as sleep } from 'node:timers/promises';

export interface Accepted {
  readonly userId: string;
  readonly email: string;
}

/** Registers users over HTTP as a client that does not give up would: the same key until there is an answer. */
export class Load {
  readonly accepted: Accepted[] = [];
  /** Requests that had to be repeated. */
  repeated = 0;
  private running: Promise<unknown> | undefined;
  private stopping = false;
  private next = 0;

  constructor(
    /** Where the edge is now; a request that fails goes to the next of them. */
    private readonly urls: () => readonly string[],
    private readonly reader: Pick<MailReader, 'readFor' | 'verified'>,
    private readonly prefix: string,
    private readonly pauseMs: number,
    /** So many users may wait for their mail; more register when some have it. What a service that is down has to make up for is bounded. */
    private readonly mostWaiting: number,
  ) {}

  start(clients: number): void {
    this.stopping = false;
    this.running ??= Promise.all(Array.from({ length: clients }, () => this.client()));
    // Whoever stops it is told.
    this.running.catch(() => undefined);
  }

  /**
   * Resolves when every request that was begun has its answer.
   * @throws Error when a correct request was refused
   */
  async stop(): Promise<void> {
    this.stopping = true;
    const { running } = this;
    this.running = undefined;
    await running;
  }

  private async client(): Promise<void> {
    while (!this.stopping) {
      if (this.accepted.length - this.reader.verified.size < this.mostWaiting) await this.register(this.next++);
      await sleep(this.pauseMs);
    }
  }

  private async register(n: number): Promise<void> {
    const email = `${this.prefix}-${n}@example.com`;
    for (let attempt = 0; ; attempt++) {
      const urls = this.urls();
      const url = urls[(n + attempt) % urls.length] ?? '';
      try {
        const response = await fetch(`${url}/users`, {
          method: 'POST',
          headers: { 'content-type': 'application/json', 'idempotency-key': email },
          body: JSON.stringify({ email, name: `User ${n}` }),
          signal: AbortSignal.timeout(5_000),
        });
        if (response.status === 202) {
          const { userId } = (await response.json()) as { userId: string };
          this.accepted.push({ userId, email });
          this.reader.readFor(email, userId);
          return;
        }
        if (response.status < 500) throw new RefusedError(`${response.status} ${await response.text()}`);
      } catch (error) {
        if (error instanceof RefusedError) throw error;
      }
      this.repeated += 1;
      await sleep(200);
    }
  }
}

/** A client that asks correctly is never refused, whatever breaks. */
class RefusedError extends Error {}

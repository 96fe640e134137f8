import type { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { TransientError } from '../errors.js';
import { backoffDelay } from '../failure-policy.js';
import { errorText, type Logger } from '../logger.js';
import { withinLimit } from './time-limit.js';

interface Closable extends EventEmitter {
  close(): Promise<void>;
}

export interface KeptOpenOptions<T> {
  /** For logs: `the connection to RabbitMQ`. */
  readonly name: string;
  readonly logger: Logger;
  open(): Promise<T>;
  /** Makes it ready for use; it counts as open only afterwards. A rejection closes it and starts over. */
  prepare?(resource: T): Promise<void>;
  onOpen?(resource: T): void;
  /** Called in the same turn in which it closes. */
  onClosed?(): void;
}

const reopenBackoff = { baseMs: 100, maxMs: 5000, jitter: 0.5 };

/** A connection or channel that may close at any time and is then opened again, with backoff, until it is stopped. */
export class KeptOpen<T extends Closable> {
  private resource: T | undefined;
  private closed: Promise<void> = Promise.resolve();
  private readonly stopping = new AbortController();
  private readonly waiting = new Set<(resource: T | undefined) => void>();

  constructor(private readonly options: KeptOpenOptions<T>) {}

  /** Undefined from the moment it closes until it is open again. */
  get current(): T | undefined {
    return this.resource;
  }

  /** Opens it for the first time, trying for `patienceMs`; rejects with the last failure. */
  async start(patienceMs = 0): Promise<void> {
    await this.openWithin(patienceMs);
    void this.keep();
  }

  /** @throws TransientError when it is not open within `patienceMs`, or is stopped */
  whenOpen(patienceMs = Infinity): Promise<T> {
    if (this.resource) return Promise.resolve(this.resource);
    const { name } = this.options;
    return new Promise((resolve, reject) => {
      const settle = (resource: T | undefined): void => {
        this.waiting.delete(settle);
        clearTimeout(timer);
        if (resource) resolve(resource);
        else reject(new TransientError(`${name} is not open; check that the broker runs, then try again`));
      };
      const timer = patienceMs === Infinity ? undefined : setTimeout(settle, patienceMs, undefined);
      if (this.stopping.signal.aborted) settle(undefined);
      else this.waiting.add(settle);
    });
  }

  /** Leaves it open as long as it lasts, but does not open it again. */
  stopReopening(): void {
    this.stopping.abort();
    for (const settle of this.waiting) settle(undefined);
  }

  async stop(): Promise<void> {
    this.stopReopening();
    if (this.resource) await closeQuietly(this.resource);
  }

  private async keep(): Promise<void> {
    const { name, logger } = this.options;
    for (;;) {
      await this.closed;
      if (this.stopping.signal.aborted) return;
      logger.warn(`${name} was lost and is opened again`);
      await this.pause(1);
      // Rejects only when it is stopped, which the next turn sees.
      await this.openWithin(Infinity).catch(() => undefined);
    }
  }

  private async openWithin(patienceMs: number): Promise<void> {
    const { name, logger } = this.options;
    const deadline = performance.now() + patienceMs;
    for (let failures = 1; ; failures++) {
      try {
        return await this.openOnce();
      } catch (error) {
        if (this.stopping.signal.aborted || performance.now() >= deadline) throw error;
        logger.warn(`${name} cannot be opened, trying again`, { failures, error: errorText(error) });
        await this.pause(failures);
      }
    }
  }

  private async openOnce(): Promise<void> {
    const { name, logger, open, prepare, onOpen, onClosed } = this.options;
    this.stopping.signal.throwIfAborted();
    const resource = await open();
    let isClosed = false;
    resource.on('error', (error: unknown) => logger.warn(`${name} reported an error`, { error: errorText(error) }));
    // Without a listener amqplib lets a throw of one of our callbacks take the connection down.
    resource.on('handler-error', (error: unknown) =>
      logger.error(`defect: a callback of ${name} threw`, { error: errorText(error) }),
    );
    this.closed = new Promise((resolve) => {
      resource.once('close', () => {
        isClosed = true;
        if (this.resource === resource) {
          this.resource = undefined;
          onClosed?.();
        }
        resolve();
      });
    });
    try {
      if (prepare) await withinLimit(prepare(resource));
      this.stopping.signal.throwIfAborted();
      if (isClosed) throw new TransientError(`${name} closed while it was being prepared`);
    } catch (error) {
      await closeQuietly(resource);
      throw error;
    }
    this.resource = resource;
    onOpen?.(resource);
    for (const settle of this.waiting) settle(resource);
  }

  private async pause(failures: number): Promise<void> {
    const { signal } = this.stopping;
    await sleep(backoffDelay(failures, reopenBackoff), undefined, { signal }).catch(() => undefined);
  }
}

const longestGoodbyeMs = 3000;

/**
 * Its own promise never settles when the connection breaks during the handshake, so the event counts as well; a broker
 * that does not answer at all is left to the heartbeat.
 */
async function closeQuietly(resource: Closable): Promise<void> {
  const closed = new Promise<void>((resolve) => resource.once('close', resolve));
  const goodbye = resource.close().catch(() => undefined);
  await Promise.race([closed, goodbye, sleep(longestGoodbyeMs, undefined, { ref: false })]);
}

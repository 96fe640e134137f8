import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { errorText, type Logger } from '../logger.js';
import type { StandStill } from '../stand-stills.js';
import type { AmqpMessage } from './amqp-envelope.js';
import { isOfBroker } from './delivery-outcome.js';

/** A delivery whose outcome could not be published, again and again. */
interface Unsettled {
  failures: number;
  /** Failures since which other deliveries were settled. */
  blamed: number;
  settledBefore: number;
  readonly since: number;
  why: string;
}

/** So many are remembered; the rest counts anew. */
const mostKnown = 10_000;
/** After so many failures, while others were settled in between, it is the message and not the broker. */
const mostBlamed = 10;
/** How long it is held before it goes back. */
const [shortestHoldMs, longestHoldMs] = [1_000, 10_000];

export interface UnsettledOptions {
  readonly queue: string;
  readonly logger: Logger;
  /** Whether the queue has somewhere for what is rejected; a dead-letter queue has not. */
  readonly mayReject: boolean;
}

/** What a consumer could not settle: counted, held, given back to the broker, and rejected where only that helps. */
export class UnsettledDeliveries {
  private readonly known = new Map<string, Unsettled>();
  private settledSoFar = 0;

  constructor(private readonly options: UnsettledOptions) {}

  settled(raw: AmqpMessage): void {
    this.settledSoFar += 1;
    if (this.known.size > 0) this.known.delete(nameOf(raw));
  }

  /** @returns what becomes of it now */
  async failed(raw: AmqpMessage, error: unknown): Promise<'requeue' | 'reject'> {
    const { queue, logger, mayReject } = this.options;
    const name = nameOf(raw);
    const entry = this.count(name, error);
    const details = { queue, message: name, failures: entry.failures, error: entry.why };
    if (mayReject && (!isOfBroker(error) || entry.blamed >= mostBlamed)) {
      this.known.delete(name);
      logger.error('a delivery cannot be settled because of itself: it is rejected to the dead-letter queue', details);
      return 'reject';
    }
    logger.error('a delivery could not be settled, it goes back to the queue', details);
    await sleep(Math.min(longestHoldMs, shortestHoldMs * 2 ** (entry.failures - 1)), undefined, { ref: false });
    return 'requeue';
  }

  standStills(ms: number): StandStill[] {
    const now = performance.now();
    return [...this.known].flatMap(([name, { since, failures, why }]) =>
      now - since > ms
        ? [{ place: `${this.options.queue}, message ${name}`, forMs: now - since, why: `${failures} failures: ${why}` }]
        : [],
    );
  }

  private count(name: string, error: unknown): Unsettled {
    const since = performance.now();
    const entry = this.known.get(name) ?? { failures: 0, blamed: 0, settledBefore: 0, since, why: '' };
    if (entry.failures > 0 && this.settledSoFar > entry.settledBefore) entry.blamed += 1;
    Object.assign(entry, { settledBefore: this.settledSoFar, why: errorText(error) });
    entry.failures += 1;
    if (this.known.size < mostKnown || this.known.has(name)) this.known.set(name, entry);
    return entry;
  }
}

const nameOf = ({ properties, content }: AmqpMessage): string =>
  typeof properties.messageId === 'string' && properties.messageId !== ''
    ? properties.messageId
    : `sha256-${createHash('sha256').update(content).digest('hex').slice(0, 32)}`;

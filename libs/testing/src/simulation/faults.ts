import type { Message } from '@starter/messaging';
import { createHash } from 'node:crypto';
import { seededRandom } from '../seeded-random.js';

/** What can happen where, with the highest rate that a seed may draw for it. */
const highestRates = {
  /** Between a process and a broker. */
  publish: {
    /** The broker does not get it. */
    refused: 0.1,
    /** The broker has it, the process does not hear so. */
    unconfirmed: 0.1,
    /** A second copy arrives later. */
    copied: 0.1,
    slow: 0.1,
    /** As slow as a process that is frozen until its leases have ended. */
    frozen: 0.005,
    crashBefore: 0.005,
    crashAfter: 0.005,
  },
  /** Between a broker and a handler. */
  deliver: {
    /** It comes again. */
    dropped: 0.1,
    /** Those behind it go first. */
    overtaken: 0.2,
    /** Two handlers get it at the same time. */
    doubled: 0.1,
    /** The handler has ended, the broker does not hear so. */
    unacknowledged: 0.1,
    /** The process is told to stop, as by a deploy. */
    retiring: 0.005,
    crashBefore: 0.005,
    crashAfter: 0.005,
  },
  /** Between a process and its database. */
  commit: {
    /** The connection breaks, and nothing is committed. */
    lost: 0.05,
    /** All is committed, and the connection breaks under the answer. */
    unanswered: 0.05,
    crashBefore: 0.005,
    crashAfter: 0.005,
  },
} as const;
type Edge = keyof typeof highestRates;
type Fault<At extends Edge> = keyof (typeof highestRates)[At];

/** Nothing meets the same message in the same place more often, so that every run comes to rest. */
const mostPerMessage = 3;

/**
 * What goes wrong in one run. It depends on the seed, on the place and on the message, and on how often that message has been
 * there, but not on when: whatever a replay does at other times, it draws the same faults for the same messages.
 */
export class Faults {
  /** In the order in which they happened. */
  readonly drawn: string[] = [];
  /** Messages that have passed somewhere: while nothing moves it stays the same. */
  passages = 0;
  /** Second copies on their way, and handlers that nobody waits for. */
  underWay = 0;
  private readonly passed = new Map<string, number>();
  private readonly rates = new Map<string, number>();

  constructor(readonly seed: number) {
    for (const [edge, faults] of Object.entries(highestRates)) {
      for (const [fault, highest] of Object.entries(faults)) {
        // Some faults are found only where others are away.
        const rate = this.chance(0.6, 'has', edge, fault) ? highest * this.number('rate', edge, fault) : 0;
        this.rates.set(`${edge} ${fault}`, rate);
      }
    }
  }

  /** What meets one of these messages at this place, which `where` names; the first of them that meets something. */
  at<At extends Edge>(edge: At, where: string, messages: readonly Message[]): Fault<At> | undefined {
    const faults = messages.map((message) => this.ofMessage(edge, where, message));
    return faults.find((fault) => fault !== undefined);
  }

  /** Whether this attempt (from 1) of a handler fails: fewer do than any failure policy allows. */
  failsAt(where: string, message: Message, attempt: number): boolean {
    this.passages += 1;
    const name = nameOf(message);
    if (!this.chance(0.1, 'fails', where, name) || attempt > 1 + this.below(2, 'failures', where, name)) return false;
    this.record(`handle ${where}, ${name}, attempt ${attempt}: fails`);
    return true;
  }

  /** A number from 0 to below 1, the same for the same seed and name. */
  number(...name: readonly (string | number)[]): number {
    const hash = createHash('sha256')
      .update([this.seed, ...name].join('\n'))
      .digest();
    return seededRandom(hash.readUInt32LE())();
  }

  below(limit: number, ...name: readonly (string | number)[]): number {
    return Math.floor(limit * this.number(...name));
  }

  chance(probability: number, ...name: readonly (string | number)[]): boolean {
    return this.number(...name) < probability;
  }

  /** The run is not at rest before that has ended, one way or another. */
  meanwhile(work: Promise<unknown>): void {
    this.underWay += 1;
    void work.catch(() => undefined).finally(() => (this.underWay -= 1));
  }

  record(fault: string): void {
    this.drawn.push(fault);
  }

  private ofMessage<At extends Edge>(edge: At, where: string, message: Message): Fault<At> | undefined {
    this.passages += 1;
    const place = `${edge} ${where}, ${nameOf(message)}`;
    const times = (this.passed.get(place) ?? 0) + 1;
    this.passed.set(place, times);
    if (times > mostPerMessage) return undefined;
    let drawn = this.number(place, times);
    for (const fault of Object.keys(highestRates[edge]) as Fault<At>[]) {
      drawn -= this.rates.get(`${edge} ${String(fault)}`) ?? 0;
      if (drawn >= 0) continue;
      this.record(`${place}, time ${times}: ${String(fault)}`);
      return fault;
    }
    return undefined;
  }
}

/** By what stays the same when the run is repeated: ids do not, unless they follow from something or the sender has chosen them. */
function nameOf({ type, subject, sequence, id, data }: Message): string {
  const { requestId, timerId } = data as { readonly requestId?: string; readonly timerId?: string };
  return `${type} ${subject ?? ''} ${sequence ?? requestId ?? timerId ?? id}`;
}

import { backoffDelay } from '../failure-policy.js';
import { errorText } from '../logger.js';
import type { OutboxRow } from './publish-rows.js';

/** A message that its broker does not take, and so holds back those behind it in its key. */
export interface OutgoingProblem {
  readonly id: string;
  readonly type: string;
  readonly channel: OutboxRow['channel'];
  readonly address: string;
  readonly key: string;
  readonly writtenAt: Date;
  readonly failures: number;
  readonly error: string;
  /** Milliseconds until the next attempt; 0 or less = due. */
  readonly retryInMs: number;
}

const backoff = { baseMs: 100, maxMs: 30_000 };

/** With so many failing keys it is the broker that fails, and its channel rests; the other one goes on. */
const mostHeld = 1_000;

/** Keys whose head failed, each with its own exponential backoff. */
export class HeldKeys {
  private readonly held = new Map<string, { problem: Omit<OutgoingProblem, 'retryInMs'>; until: number }>();

  get size(): number {
    return this.held.size;
  }

  /** Some key may be tried again. */
  get due(): boolean {
    const now = performance.now();
    return [...this.held.values()].some(({ until }) => until <= now);
  }

  hold(row: OutboxRow, error: unknown): OutgoingProblem {
    const failures = (this.held.get(keyOf(row))?.problem.failures ?? 0) + 1;
    const retryInMs = backoffDelay(failures, backoff);
    const { message, channel, address, ordering_key: key, written_at: writtenAt } = row;
    const { id, type } = message;
    const problem = { id, type, channel, address, key, writtenAt, failures, error: errorText(error) };
    this.held.set(keyOf(row), { problem, until: performance.now() + retryInMs });
    return { ...problem, retryInMs };
  }

  letGo(row: OutboxRow): void {
    this.held.delete(keyOf(row));
  }

  /** After a look at everything: what is due and was not there has been discarded, or belongs to another instance now. */
  forgetUnseen(seen: Iterable<OutboxRow>): void {
    const present = new Set([...seen].map(keyOf));
    const now = performance.now();
    for (const [key, { until }] of this.held) if (until <= now && !present.has(key)) this.held.delete(key);
  }

  /** Held keys; without those that may be tried again when `butDue`. */
  keys(butDue: boolean): string[] {
    const now = performance.now();
    return [...this.held.values()].filter(({ until }) => !butDue || until > now).map(({ problem }) => problem.key);
  }

  exhausted(channel: OutboxRow['channel']): boolean {
    if (this.held.size < mostHeld) return false;
    const now = performance.now();
    const waiting = [...this.held.values()].filter(({ problem, until }) => problem.channel === channel && until > now);
    return waiting.length >= mostHeld;
  }

  problems(): OutgoingProblem[] {
    const now = performance.now();
    return [...this.held.values()].map(({ problem, until }) => ({ ...problem, retryInMs: Math.round(until - now) }));
  }
}

const keyOf = ({ channel, ordering_key: key }: Pick<OutboxRow, 'channel' | 'ordering_key'>) => `${channel} ${key}`;

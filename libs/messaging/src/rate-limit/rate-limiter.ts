import type { DataSource } from 'typeorm';
import { Batches } from '../batches.js';
import { inTransaction } from '../database/transaction.js';
import { errorText, type Logger } from '../logger.js';
import type { Message } from '../message.js';
import type { Outbox } from '../outbox/outbox.js';
import { Wakeable } from '../wakeable.js';
import { parseRate, type Rate } from './rate.js';
import { RateLimits } from './rate-limits.js';
import {
  admitWaiting,
  ensureSlots,
  expectRetries,
  keepWaiting,
  slotsForNew,
  takePasses,
  waitingTypes,
  type Pass,
  type Pending,
} from './slots.js';

export interface RateLimiterOptions {
  readonly dataSource: DataSource;
  readonly outbox: Outbox;
  readonly logger: Logger;
}

/** Most messages of a type that are let go at once. */
const mostAtOnce = 100;
const longestWaitMs = 1_000;
const shortestWaitMs = 20;

/** Lets go whatever waits when a limit was lifted. */
const unlimited: Rate = { everyMs: 0.001, burst: 1_000_000 };

/**
 * Holds commands back whose type has had its share, over all processes of the service. What is over the limit waits in the
 * database and comes back by the outbox when it is its turn, first come, first served: it lies in no queue, so a new limit
 * takes effect on it at once.
 */
export class RateLimiter {
  /** Of the code, by type. */
  private readonly defaults = new Map<string, string>();
  private rates = new Map<string, Rate>();
  private readonly ensured = new Set<string>();
  private readonly limits: RateLimits;
  private readonly requests = new Batches<Pending, number | undefined>((batch) => this.decide(batch));
  private readonly retries = new Batches<Pending, void>((batch) => this.expect(batch));
  private readonly alarm = new Wakeable();
  private running: Promise<void> | undefined;
  private stopped = false;

  constructor(private readonly options: RateLimiterOptions) {
    this.limits = new RateLimits(options.dataSource);
  }

  /** @throws ValidationError that shows what is right */
  setDefault(type: string, rate: string): void {
    this.rates.set(type, parseRate(rate));
    this.defaults.set(type, rate);
  }

  async start(): Promise<void> {
    await this.refresh().catch((error: unknown) => this.warn(error));
    this.running = this.run();
  }

  async stop(): Promise<void> {
    this.stopped = true;
    this.alarm.wake();
    await this.running;
  }

  isLimited(type: string): boolean {
    return this.rates.has(type);
  }

  /**
   * The number of the attempt when the message may be handled now. Otherwise it is stored, and will be sent to the queue
   * `address` again. That it has been let go is only known from the database: anybody can write a header.
   * @throws DatabaseUnavailableError
   */
  admits(message: Message, attempt: number, address: string): Promise<number | undefined> {
    return this.requests.call({ message, attempt, address });
  }

  /**
   * Before a message that was let go is given back to the broker for this attempt: it passes when it comes, and takes a slot
   * from those to come. Without it the message asks again.
   * @throws DatabaseUnavailableError
   */
  expectRetry(message: Message, attempt: number, address: string): Promise<void> {
    return this.retries.call({ message, attempt, address });
  }

  private async expect(batch: readonly Pending[]): Promise<void[]> {
    await expectRetries(this.options.dataSource, batch);
    return batch.map(() => undefined);
  }

  private async decide(batch: readonly Pending[]): Promise<(number | undefined)[]> {
    const { dataSource } = this.options;
    const messages = batch.map(({ message }) => message);
    const passes = new Map((await takePasses(dataSource, messages)).map((pass) => [nameOf(pass), pass]));
    const owing = [...passes.values()].filter(({ owes }) => owes);
    // A pass is for one copy.
    const passed = messages.map((message) => {
      const pass = passes.get(nameOf(message));
      passes.delete(nameOf(message));
      return pass;
    });
    const slots = await this.takeSlots(
      messages.filter((_, at) => !passed[at]),
      owing,
    );
    const waiting: Pending[] = [];
    const attempts = batch.map((request, at) => {
      const pass = passed[at];
      if (pass) return pass.attempt;
      const { type } = request.message;
      const left = slots.get(type) ?? Infinity;
      if (left > 0) {
        slots.set(type, left - 1);
        return request.attempt;
      }
      waiting.push(request);
      return undefined;
    });
    if (waiting.length > 0) {
      await keepWaiting(dataSource, waiting);
      this.alarm.wake();
    }
    return attempts;
  }

  /** By type: how many of those that ask may go. */
  private async takeSlots(asking: readonly Message[], owing: readonly Pass[]): Promise<Map<string, number>> {
    const wanted = Map.groupBy(asking, ({ type }) => type);
    const owed = Map.groupBy(owing, ({ type }) => type);
    const asked = [...new Set([...wanted.keys(), ...owed.keys()])].flatMap((type) => {
      const rate = this.rates.get(type);
      const counts = { wanted: wanted.get(type)?.length ?? 0, owed: owed.get(type)?.length ?? 0 };
      return rate ? [{ type, rate, ...counts }] : [];
    });
    if (asked.length === 0) return new Map();
    await this.ensure(asked.map(({ type }) => type));
    const slots = await slotsForNew(this.options.dataSource, asked);
    return new Map(slots.map(({ type, granted }) => [type, granted]));
  }

  private async run(): Promise<void> {
    let waitMs = 0;
    while (!this.stopped) {
      await this.alarm.wait(waitMs);
      if (this.stopped) return;
      try {
        await this.refresh();
        waitMs = await this.letGo();
      } catch (error) {
        this.warn(error);
        waitMs = longestWaitMs;
      }
      if (waitMs < shortestWaitMs) await new Promise((resolve) => setTimeout(resolve, shortestWaitMs));
    }
  }

  private async refresh(): Promise<void> {
    const stored = await this.limits.stored();
    const texts = new Map([...this.defaults, ...stored]);
    this.rates = new Map([...texts].flatMap(([type, text]) => (text === 'none' ? [] : [[type, parseRate(text)]])));
  }

  /** @returns milliseconds until something may go again */
  private async letGo(): Promise<number> {
    const { dataSource, outbox } = this.options;
    const types = await waitingTypes(dataSource);
    if (types.length === 0) return longestWaitMs;
    const asked = types.map((type) => ({
      type,
      rate: this.rates.get(type) ?? unlimited,
      ...{ wanted: mostAtOnce, owed: 0 },
    }));
    const slots = await inTransaction(dataSource, async (tx) => {
      const { admitted, slots: taken } = await admitWaiting(tx, asked);
      await outbox.add(
        tx,
        admitted.map((waiting) => ({ channel: 'command' as const, exchange: '', ...waiting })),
      );
      return taken;
    });
    return Math.min(longestWaitMs, ...slots.map(({ nextInMs }) => Math.ceil(nextInMs)));
  }

  private async ensure(types: readonly string[]): Promise<void> {
    const missing = types.filter((type) => !this.ensured.has(type));
    if (missing.length === 0) return;
    await ensureSlots(this.options.dataSource, missing);
    missing.forEach((type) => this.ensured.add(type));
  }

  private warn(error: unknown): void {
    const details = { error: errorText(error) };
    this.options.logger.warn(
      'rate limits could not be looked at; it is tried again, and the last known ones hold',
      details,
    );
  }
}

const nameOf = ({ type, id }: { readonly type: string; readonly id: string }): string => `${type} ${id}`;

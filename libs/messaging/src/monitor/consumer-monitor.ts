import type { Effect, Outcome } from '../outcome.js';
import type { Consumer, DeliveryHandler } from '../transport/delivery.js';
import { Histogram } from './histogram.js';

/** What became of deliveries: each ends in exactly one of these. */
export type Counts = Record<Effect, number>;

/** Under which types that nobody handles are counted, together: anybody may send any name. */
export const otherTypes = 'other';

/** Upper bounds of the processing time, in seconds. */
const secondsBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60, 600];

export interface TypeMonitor {
  readonly counts: Counts;
  /** From the delivery to its outcome, in seconds. */
  readonly processing: Histogram;
}

/** What a consumer of this process has done since it started. A delivery costs it one look-up and a few additions. */
export class ConsumerMonitor {
  private readonly byType = new Map<string, TypeMonitor>();
  private readonly others = newTypeMonitor();
  private attached: Consumer[] = [];
  private running = 0;
  /** Of these, those that bound their time themselves. */
  private patient = 0;
  private settledAt = performance.now();
  private takenAt = performance.now();
  private idleUntil = performance.now();

  /** A type that is handled, and so is counted by itself. */
  expect(type: string): void {
    if (!this.byType.has(type)) this.byType.set(type, newTypeMonitor());
  }

  /** The handler, with its deliveries counted and timed. */
  watch(handle: DeliveryHandler): DeliveryHandler {
    return (delivery) => {
      const since = performance.now();
      this.takenAt = since;
      if (this.running === this.patient) this.idleUntil = since;
      this.running += 1;
      return handle(delivery).then(
        (outcome) => {
          const monitor = this.of(delivery.message.type);
          monitor.counts[effectOf(outcome)] += 1;
          monitor.processing.observe(this.settle(since) / 1_000);
          return outcome;
        },
        (error: unknown) => {
          this.settle(since);
          throw error;
        },
      );
    };
  }

  /** A message that was not delivered by the transport: it comes from where it was parked. */
  count(type: string, outcome: Outcome): void {
    this.of(type).counts[effectOf(outcome)] += 1;
    this.settledAt = performance.now();
  }

  /** The transport's consumer, once it is attached. One name may consume several topics. */
  follow(consumer: Consumer): void {
    this.attached.push(consumer);
  }

  get consumers(): readonly Consumer[] {
    return this.attached;
  }

  get types(): ReadonlyMap<string, TypeMonitor> {
    return new Map([...this.byType, [otherTypes, this.others]]);
  }

  /** Over all types. */
  get totals(): Counts {
    const totals = newCounts();
    for (const { counts } of this.types.values()) add(totals, counts);
    return totals;
  }

  /** Deliveries that have no outcome yet. */
  get inFlight(): number {
    return this.running;
  }

  /** Milliseconds since a delivery came. */
  get untakenMs(): number {
    return performance.now() - this.takenAt;
  }

  /** Milliseconds that it has had deliveries in hand without an outcome of any; 0 when it has none but {@link bounded} ones. */
  get unsettledMs(): number {
    return this.running === this.patient ? 0 : performance.now() - Math.max(this.settledAt, this.idleUntil);
  }

  /** A delivery that ends by a time of its own: however long it takes, it does not hang. */
  async bounded<T>(work: () => Promise<T>): Promise<T> {
    this.patient += 1;
    try {
      return await work();
    } finally {
      if (this.running === this.patient) this.idleUntil = performance.now();
      this.patient -= 1;
    }
  }

  /** Starts {@link untakenMs} anew. */
  rested(): void {
    this.takenAt = performance.now();
  }

  private settle(since: number): number {
    this.running -= 1;
    this.settledAt = performance.now();
    return this.settledAt - since;
  }

  private of(type: string): TypeMonitor {
    return this.byType.get(type) ?? this.others;
  }
}

export const newCounts = (): Counts => ({
  handled: 0,
  duplicates: 0,
  parked: 0,
  retried: 0,
  discarded: 0,
  deadLettered: 0,
});

export function add(totals: Counts, counts: Counts): void {
  for (const effect of Object.keys(totals) as Effect[]) totals[effect] += counts[effect];
}

const newTypeMonitor = (): TypeMonitor => ({ counts: newCounts(), processing: new Histogram(secondsBounds) });

function effectOf(outcome: Outcome): Effect {
  switch (outcome.kind) {
    case 'done':
      return outcome.effect ?? 'handled';
    case 'retry':
      return 'retried';
    case 'dead-letter':
      return 'deadLettered';
    case 'discard':
      return 'discarded';
  }
}

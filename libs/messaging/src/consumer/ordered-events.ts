import type { z } from 'zod';
import { inTransaction, type Transaction } from '../database/transaction.js';
import type { MessageDefinition } from '../definition.js';
import { recordDiscarded } from '../inbox/discarded.js';
import { admitInSequence, isSequenced, type SequencedMessage } from '../inbox/inbox.js';
import { overdueGaps, parkFailed, readyOfAllKeys, readyOfKey, unpark } from '../inbox/parked.js';
import { errorText } from '../logger.js';
import { deadLetter, done, nextAttempt, retry, type Outcome } from '../outcome.js';
import type { Consumer } from '../transport/delivery.js';
import { Dispatcher, type Received } from './dispatcher.js';
import type { EventConsumerOptions } from './event-reactor.js';
import { KeyedQueue } from './keyed-queue.js';

/** Runs in the transaction that advances the sequence of the event's key. */
export type OrderedHandler<Data> = (event: Received<Data>, tx: Transaction) => Promise<void>;

export interface OrderedEventsOptions extends EventConsumerOptions {
  /** How often parked messages whose time has come are looked for. Default 1 000 ms. */
  readonly sweepMs?: number;
  /** A missing predecessor is reported as an error after this long, and again each time it passes. Default 60 000 ms. */
  readonly gapDeadlineMs?: number;
}

/**
 * Handles the events of each key exactly once and in sequence. A failed event stays parked in the database, for its next
 * attempt or for a human, and its successors wait behind it; other keys go on.
 */
export class OrderedEvents {
  private readonly dispatcher: Dispatcher;
  private readonly keys = new KeyedQueue();
  /** Keys whose next event is parked already. */
  private readonly followed = new Set<string>();
  /** Messages that come from the database and not from the transport. */
  private readonly fromParking = new WeakSet<SequencedMessage>();
  private consumer: Consumer | undefined;
  private sweeper: NodeJS.Timeout | undefined;
  private sweeping: Promise<void> | undefined;
  private gapsReportedAt = 0;

  constructor(private readonly options: OrderedEventsOptions) {
    this.dispatcher = new Dispatcher({
      ...options,
      discarded: (message, reason) =>
        this.effect(message as SequencedMessage, (tx) => recordDiscarded(tx, options.consumer, [{ message, reason }])),
    });
  }

  on<Schema extends z.ZodType>(
    definition: MessageDefinition & { readonly schema: Schema },
    handler: OrderedHandler<z.output<Schema>>,
  ): this {
    this.dispatcher.register(definition, (received) =>
      this.effect(received.message as SequencedMessage, (tx) => handler(received, tx)),
    );
    const { topic, consumer, logger } = this.options;
    logger.info('binding', { topic, group: consumer, event: definition.type, order: 'sequence' });
    return this;
  }

  async start(): Promise<void> {
    const { topic, consumer, transport, concurrency, sweepMs } = this.options;
    this.consumer = await transport.subscribe(
      { topic, group: consumer, ...(concurrency === undefined ? {} : { concurrency }) },
      ({ message, origin }) => {
        if (isSequenced(message)) return this.keys.run(message.subject, () => this.deliver(message, 1));
        return Promise.resolve(
          deadLetter(`${origin} has no subject or no sequence; events of an ordered topic need both`, 'NotSequenced'),
        );
      },
    );
    this.sweeper = setInterval(() => {
      this.sweeping ??= this.sweep().finally(() => (this.sweeping = undefined));
    }, sweepMs ?? 1_000);
  }

  get attached(): boolean {
    return this.consumer?.attached ?? false;
  }

  async stop(): Promise<void> {
    clearInterval(this.sweeper);
    await this.consumer?.close();
    await this.sweeping;
  }

  /** The guard and the effect of one event in one transaction. */
  private async effect(message: SequencedMessage, work: (tx: Transaction) => Promise<void>): Promise<void> {
    const { dataSource, consumer, counters } = this.options;
    const admission = await inTransaction(dataSource, async (tx) => {
      const admitted = await admitInSequence(tx, consumer, message);
      if (admitted.verdict !== 'new') return admitted;
      const wasParked = admitted.parkedTo >= message.sequence && (await unpark(tx, consumer, message));
      // A second copy of what has failed here: the parked one has its own time, or a human to wait for.
      if (wasParked && !this.fromParking.has(message)) throw new StaysParkedError();
      await work(tx);
      return admitted;
    }).catch((error: unknown) => {
      if (error instanceof StaysParkedError) return { verdict: 'duplicate' } as const;
      throw error;
    });
    if (admission.verdict === 'duplicate') counters.duplicates += 1;
    if (admission.verdict === 'parked') counters.parked += 1;
    if (admission.verdict !== 'new') return;
    counters.handled += 1;
    if (admission.parkedTo > message.sequence) this.followed.add(message.subject);
  }

  /** One event and then whatever was parked behind it. A failure is parked as well, so the transport is never held up. */
  private async deliver(message: SequencedMessage, attempt: number): Promise<Outcome> {
    try {
      await this.settle(message, await this.handle(message, attempt), attempt);
      await this.deliverFollowers(message.subject);
      return done;
    } catch (error) {
      // The database did not take the failure either: the transport keeps the event.
      return retry(1_000, errorText(error));
    }
  }

  private async handle(message: SequencedMessage, attempt: number): Promise<Outcome> {
    if (this.dispatcher.handles(message.type)) return this.dispatcher.dispatch(message, attempt);
    await this.effect(message, () => Promise.resolve());
    return done;
  }

  private async settle(message: SequencedMessage, outcome: Outcome, attempt: number): Promise<void> {
    const { dataSource, consumer } = this.options;
    if (outcome.kind === 'done' || outcome.kind === 'discard') return;
    const counted = outcome.kind === 'retry' ? nextAttempt(outcome, attempt) - 1 : attempt;
    const next = outcome.kind === 'retry' ? { dueInMs: outcome.afterMs } : { failure: outcome.reason };
    await inTransaction(dataSource, (tx) => parkFailed(tx, consumer, message, counted, next));
  }

  private async deliverFollowers(key: string): Promise<void> {
    while (this.followed.delete(key)) await this.deliverParked(key);
  }

  private async deliverParked(key: string): Promise<void> {
    const { dataSource, consumer } = this.options;
    const [parked] = await readyOfKey(dataSource, consumer, key);
    if (!parked) return;
    this.fromParking.add(parked.message);
    const outcome = await this.handle(parked.message, parked.attempts + 1);
    if (outcome.kind === 'done' || outcome.kind === 'discard') {
      // Gone already, unless it turned out to be a duplicate.
      await inTransaction(dataSource, (tx) => unpark(tx, consumer, parked.message));
    } else {
      await this.settle(parked.message, outcome, parked.attempts + 1);
    }
  }

  private async sweep(): Promise<void> {
    const { dataSource, consumer, logger } = this.options;
    try {
      const ready = await readyOfAllKeys(dataSource, consumer, 100);
      const keys = new Set(ready.map((parked) => parked.message.subject));
      await Promise.all(
        [...keys].map((key) =>
          this.keys.run(key, async () => {
            await this.deliverParked(key);
            await this.deliverFollowers(key);
          }),
        ),
      );
      await this.reportGaps();
    } catch (error) {
      logger.warn('parked events could not be looked through; it is tried again', {
        consumer,
        error: errorText(error),
      });
    }
  }

  private async reportGaps(): Promise<void> {
    const { dataSource, consumer, logger, gapDeadlineMs = 60_000 } = this.options;
    if (performance.now() - this.gapsReportedAt < gapDeadlineMs) return;
    this.gapsReportedAt = performance.now();
    for (const gap of await overdueGaps(dataSource, consumer, gapDeadlineMs)) {
      logger.error('events are missing; their successors wait. Publish the missing ones again', { consumer, ...gap });
    }
  }
}

/** Leaves the transaction, so that the parked message stays. */
class StaysParkedError extends Error {}

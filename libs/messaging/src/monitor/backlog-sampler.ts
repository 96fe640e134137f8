import type { DataSource } from 'typeorm';
import { runStatement, type Statement } from '../database/transaction.js';
import { errorText, type Logger } from '../logger.js';
import type { Consumer } from '../transport/delivery.js';
import type { QueueMonitor } from './queue-monitor.js';

export interface Backlog {
  /** Events that wait in the inbox by consumer, counted up to 100 000 over all. */
  readonly parked: ReadonlyMap<string, number>;
  /** Dead letters that wait for somebody, by consumer, counted up to 100 000 over all. */
  readonly deadLetters: ReadonlyMap<string, number>;
  /** Messages that wait at the broker, by consumer. */
  readonly waiting: ReadonlyMap<string, number>;
}

export interface BacklogSamplerOptions {
  readonly dataSource: DataSource;
  readonly monitor: QueueMonitor;
  readonly logger: Logger;
  readonly sampleMs?: number;
  readonly silentMs?: number;
}

/** Counting more would cost the database more than the exact number is worth. */
const countedRows = 100_000;

// Events that wait for a human are among the dead letters.
const waitingRows: Statement = {
  name: 'backlog-rows',
  text: `SELECT what, consumer, count(*)::int AS rows
           FROM (SELECT 'parked' AS what, consumer FROM (SELECT consumer FROM inbox_parked LIMIT ${countedRows}) AS parked
                 UNION ALL
                 SELECT 'dead', consumer
                   FROM (SELECT consumer FROM dead_letters WHERE status = 'open' LIMIT ${countedRows}) AS dead) AS front
          GROUP BY what, consumer`,
};

/**
 * Asks the database and the brokers now and then what waits, for metrics and probes, which so cost nothing. A consumer that
 * gets nothing although the broker holds messages for it, which happens to connections that only look alive, is built anew.
 */
export class BacklogSampler {
  latest: Backlog = { parked: new Map(), deadLetters: new Map(), waiting: new Map() };
  private timer: NodeJS.Timeout | undefined;
  /** What waited for a consumer when it was built anew. */
  private readonly rebuiltAt = new WeakMap<Consumer, number>();
  private sampling: Promise<void> | undefined;

  constructor(private readonly options: BacklogSamplerOptions) {}

  start(): void {
    this.timer ??= setInterval(() => void this.sample(), this.options.sampleMs ?? 10_000).unref();
    void this.sample();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** Never rejects: what could not be asked keeps its last value. */
  sample(): Promise<void> {
    this.sampling ??= Promise.all([this.askDatabase(), this.askBrokers()])
      .then(() => undefined)
      .finally(() => (this.sampling = undefined));
    return this.sampling;
  }

  private async askDatabase(): Promise<void> {
    const { dataSource, logger } = this.options;
    try {
      const found = await runStatement<{ what: string; consumer: string; rows: number }>(dataSource, waitingRows);
      const countsOf = (wanted: string): ReadonlyMap<string, number> =>
        new Map(found.filter(({ what }) => what === wanted).map(({ consumer, rows }) => [consumer, rows]));
      this.latest = { ...this.latest, parked: countsOf('parked'), deadLetters: countsOf('dead') };
    } catch (error) {
      logger.warn('the database could not be asked what waits', { error: errorText(error) });
    }
  }

  private async askBrokers(): Promise<void> {
    const { monitor, logger, silentMs = 60_000 } = this.options;
    const waiting = new Map(this.latest.waiting);
    await Promise.all(
      [...monitor.byConsumer].map(async ([name, one]) => {
        try {
          const counts = await Promise.all(one.consumers.map((consumer) => consumer.backlog()));
          waiting.set(
            name,
            counts.reduce((sum, count) => sum + count, 0),
          );
          if (one.inFlight > 0 || one.untakenMs < silentMs) return;
          one.consumers.forEach((consumer, index) => {
            // It has been given what waits for its next attempt: built anew, it would count the attempts from 1 again.
            const { attached, inFlight, problem } = consumer;
            const count = counts[index] ?? 0;
            if (!attached || inFlight > 0 || problem !== undefined || count === 0) return;
            // It brought nothing the last time: whatever holds the messages back, only something new can have changed it.
            if (this.rebuiltAt.get(consumer) === count) return;
            this.rebuiltAt.set(consumer, count);
            logger.warn('a consumer gets nothing although messages wait for it, and is built anew', { consumer: name });
            one.rested();
            consumer.rebuild('it got nothing although messages wait for it');
          });
        } catch (error) {
          logger.debug('the broker could not be asked what waits', { consumer: name, error: errorText(error) });
        }
      }),
    );
    this.latest = { ...this.latest, waiting };
  }
}

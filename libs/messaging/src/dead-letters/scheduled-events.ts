import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { runStatement, type Statement, type Transaction } from '../database/transaction.js';
import { errorText, type Logger } from '../logger.js';
import type { Message } from '../message.js';
import { nextAttempt, type Outcome } from '../outcome.js';
import { StandStills, type StandStill } from '../stand-stills.js';
import { Wakeable } from '../wakeable.js';
import { longestReason } from '../transport/dead-letter.js';
import type { Delivery, DeliveryHandler } from '../transport/delivery.js';

type Retry = Extract<Outcome, { kind: 'retry' }>;

/** Claimed for so long at a time, and claimed again while it is being handled: after a kill others take it over. */
const claim = `clock_timestamp() + interval '60 seconds'`;

const take: Statement = {
  name: 'dead-letter-take',
  text: `UPDATE dead_letter SET due_at = ${claim}
          WHERE (consumer, id) IN (
            SELECT consumer, id FROM dead_letter
             WHERE consumer = $1 AND status = 'scheduled' AND due_at <= (SELECT clock_timestamp())
             ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED)
         RETURNING id, message, attempts, redrives`,
};
// Nearly always nothing is due, and this look at an index costs a fraction of the update that finds nothing.
const look: Statement = {
  name: 'dead-letter-due',
  text: `SELECT (extract(epoch FROM min(due_at) - clock_timestamp()) * 1000)::float8 AS "dueInMs"
           FROM dead_letter WHERE consumer = $1 AND status = 'scheduled'`,
};
const keep: Statement = {
  name: 'dead-letter-keep',
  text: `UPDATE dead_letter SET due_at = ${claim} WHERE consumer = $1 AND id = ANY($2) AND status = 'scheduled'`,
};
const later: Statement = {
  name: 'dead-letter-later',
  text: `UPDATE dead_letter SET attempts = $4, due_at = clock_timestamp() + $5 * interval '1 millisecond'
          WHERE consumer = $1 AND id = $2 AND redrives = $3 AND status = 'scheduled'`,
};
const reopen: Statement = {
  name: 'dead-letter-reopen',
  text: `UPDATE dead_letter SET status = 'open', due_at = NULL, attempts = $4, reason = $5, error_type = $6, stack = $7,
                failed_at = clock_timestamp(), opened_at = clock_timestamp()
          WHERE consumer = $1 AND id = $2 AND redrives = $3 AND status = 'scheduled'`,
};
const remove: Statement = {
  name: 'dead-letter-remove',
  text: `DELETE FROM dead_letter WHERE consumer = $1 AND id = $2 AND redrives <= $3 AND status = 'scheduled'`,
};
const takeOne: Statement = {
  name: 'dead-letter-take-out',
  text: `DELETE FROM dead_letter WHERE consumer = $1 AND id = $2 AND status = 'scheduled' RETURNING 1`,
};

const schedule: Statement = {
  name: 'dead-letter-schedule',
  text: `INSERT INTO dead_letter (consumer, id, kind, type, key, sequence, error_type, reason, origin, attempts, first_failed_at,
                failed_at, message, redrivable, status, due_at)
         SELECT $1, $2, 'event', $3, $4, $5, 'TransientError', $6, $7, $8, now, now, $9, true, 'scheduled',
                now + $10 * interval '1 millisecond'
           FROM clock_timestamp() AS now
         ON CONFLICT (consumer, id) DO NOTHING`,
};

/**
 * Takes one that is redriven out, within the transaction in which it takes effect.
 * @returns false when it has taken effect already
 */
export const takeOut = async (tx: Transaction, consumer: string, id: string): Promise<boolean> =>
  (await tx.query(takeOne, [consumer, id])).length > 0;

/** What was redriven has come to its end: it is no dead letter any more. */
export const removeRedriven = async (
  dataSource: DataSource,
  consumer: string,
  { id, redrives = 0 }: Pick<Message, 'id' | 'redrives'>,
): Promise<void> => {
  await runStatement(dataSource, remove, [consumer, id, redrives]);
};

interface Scheduled {
  readonly id: string;
  readonly message: Message;
  readonly attempts: number;
  readonly redrives: number;
}

export interface ScheduledEventsOptions {
  readonly consumer: string;
  readonly dataSource: DataSource;
  readonly logger: Logger;
  readonly handler: DeliveryHandler;
  /** Most of them handled at the same time. Default 20. */
  readonly concurrency?: number;
  /** How often it looks for what others have scheduled, such as an operator; a redrive may begin so late. Default 5 000 ms. */
  readonly pollMs?: number;
}

/** Somebody else holds what is due, or the database does not answer. */
const tryAgainMs = 1_000;

/**
 * Hands events to their consumer when they are due, and to no other one of the topic: those whose next attempt is far off, and
 * the dead letters that an operator has redriven.
 */
export class ScheduledEvents {
  private readonly inFlight = new Map<string, Promise<void>>();
  private readonly pause = new Wakeable();
  private readonly unsettled = new StandStills();
  private running: Promise<void> | undefined;
  private stopped = false;

  constructor(private readonly options: ScheduledEventsOptions) {}

  /** Stores the next attempt, so that neither memory nor the offset of its partition has to wait for it. */
  async add({ message, attempt, origin }: Delivery, { afterMs, reason, blameless }: Retry): Promise<void> {
    const { dataSource, consumer } = this.options;
    const made = blameless ? attempt - 1 : attempt;
    const { id, type, subject, sequence } = message;
    const what = [consumer, id, type, subject, sequence, reason.slice(0, longestReason), origin, made];
    await runStatement(dataSource, schedule, [...what, JSON.stringify(message), afterMs]);
  }

  start(): void {
    this.running = this.run();
  }

  /** What has come to an outcome that could not be recorded, for so long. */
  standStills(ms: number): StandStill[] {
    return this.unsettled.longerThan(ms);
  }

  /** Waits at most `drainMs` (default 10 000) for those under way; the others are tried again when their claims run out. */
  async stop(drainMs = 10_000): Promise<void> {
    this.stopped = true;
    this.pause.wake();
    await this.running;
    await Promise.race([Promise.all(this.inFlight.values()), sleep(drainMs, undefined, { ref: false })]);
  }

  private async run(): Promise<void> {
    const { consumer, logger } = this.options;
    while (!this.stopped) {
      const pauseMs = await this.takeDue().catch((error: unknown) => {
        logger.warn('scheduled events could not be looked for; it is tried again', {
          consumer,
          error: errorText(error),
        });
        return tryAgainMs;
      });
      await this.pause.wait(pauseMs);
    }
  }

  /** @returns milliseconds until it is worth looking again, unless one of those in hand ends before */
  private async takeDue(): Promise<number> {
    const { dataSource, consumer, concurrency = 20, pollMs = 5_000 } = this.options;
    if (this.inFlight.size > 0) await runStatement(dataSource, keep, [consumer, [...this.inFlight.keys()]]);
    while (this.inFlight.size < concurrency) {
      const [next] = await runStatement<{ dueInMs: number | null }>(dataSource, look, [consumer]);
      const dueInMs = next?.dueInMs ?? Infinity;
      if (dueInMs > 0) return Math.min(pollMs, Math.ceil(dueInMs));
      const free = concurrency - this.inFlight.size;
      const taken = await runStatement<Scheduled & Record<string, unknown>>(dataSource, take, [consumer, free]);
      if (taken.length === 0) return tryAgainMs;
      for (const due of taken)
        this.inFlight.set(
          due.id,
          this.handle(due).finally(() => this.ended(due.id)),
        );
    }
    return pollMs;
  }

  /** There is room for another, and its own next attempt may be the next that is due. */
  private ended(id: string): void {
    this.inFlight.delete(id);
    this.pause.wake();
  }

  private async handle({ id, message, attempts, redrives }: Scheduled): Promise<void> {
    const { dataSource, consumer, handler, logger } = this.options;
    const attempt = attempts + 1;
    const place = `${consumer}, scheduled event ${id}`;
    try {
      const outcome = await handler({ message, attempt, redelivered: true, origin: consumer });
      const row = [consumer, id, redrives];
      if (outcome.kind === 'retry') {
        const made = nextAttempt(outcome, attempt) - 1;
        await runStatement(dataSource, later, [...row, made, outcome.afterMs]);
      } else if (outcome.kind === 'dead-letter') {
        await runStatement(dataSource, reopen, [
          ...row,
          attempt,
          outcome.reason.slice(0, longestReason),
          outcome.errorType,
          outcome.stack,
        ]);
      } else {
        await removeRedriven(dataSource, consumer, { id, redrives });
      }
      this.unsettled.end(place);
    } catch (error) {
      // Its claim runs out, and it is handed over again.
      const why = errorText(error);
      this.unsettled.begin(place, `what became of it cannot be recorded: ${why}`);
      logger.warn('a scheduled event could not be settled; it is tried again', { consumer, id, error: why });
    }
  }
}

import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { Batches } from '../batches.js';
import { inTransaction, runStatement, type Statement, type Transaction } from '../database/transaction.js';
import { outageOf } from '../database/unavailable.js';
import { backoffDelay } from '../failure-policy.js';
import { errorText, type Logger } from '../logger.js';
import { StandStills, type StandStill } from '../stand-stills.js';
import type { Message } from '../message.js';
import type { DeadLetterDelivery } from '../transport/dead-letter.js';
import type { HeldCommand } from './tell-senders.js';
import { asBytes, columnsOf, rowOf, type DeadLetterRow } from './dead-letter-row.js';

// A copy of what is known changes nothing: it failed before the latest redrive, or it is there already. What failed after that
// redrive is the same dead letter again, with its history.
const insert: Statement = {
  name: 'dead-letter-insert',
  text: `INSERT INTO dead_letter AS known (consumer, kind, id, type, key, sequence, error_type, reason, origin, attempts,
                first_failed_at, failed_at, message, raw, headers, redrivable, redrives, stack)
         SELECT $1, $2, id, type, key, sequence, error_type, reason, origin, attempts, failed_at, failed_at, message, raw,
                headers, redrivable, redrives, stack
           FROM unnest($3::text[], $4::text[], $5::text[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::int[],
                       $11::timestamptz[], $12::json[], $13::bytea[], $14::json[], $15::boolean[], $16::int[],
                       $17::text[])
             AS new (id, type, key, sequence, error_type, reason, origin, attempts, failed_at, message, raw, headers,
                     redrivable, redrives, stack)
          ORDER BY id
         ON CONFLICT (consumer, id) DO UPDATE
           SET status = 'open', due_at = NULL, error_type = excluded.error_type, reason = excluded.reason,
               attempts = excluded.attempts, failed_at = excluded.failed_at, opened_at = clock_timestamp(),
               redrives = excluded.redrives, stack = excluded.stack
         WHERE known.status = 'scheduled' AND excluded.redrives >= known.redrives
         RETURNING id`,
};

export interface DeadLetterTableOptions {
  /** The command queue or the consumer group: its name in the inbox. */
  readonly consumer: string;
  readonly kind: 'command' | 'event';
  /** Whether the consumer can be given a message again that it could not handle. Default: yes. */
  readonly redrivable?: boolean;
  readonly dataSource: DataSource;
  readonly logger: Logger;
  /** Called in the transaction that stores them, with those that were not open before and are messages. */
  readonly onOpened?: (tx: Transaction, opened: readonly HeldCommand[]) => Promise<void>;
}

/** Keeps the dead letters of a consumer, each once however often it is delivered, many with one statement. */
export class DeadLetterTable {
  private readonly writes = new Batches<DeadLetterRow, undefined>((rows) => this.write(rows));
  private readonly stopped = new AbortController();
  /** The last resort. Also in batches, so that however many there are they wait for the database as one. */
  private readonly bytes = new Batches<DeadLetterRow, undefined>((rows) =>
    this.insert(rows, rows.length > 1 ? 1 : Infinity).then(() => []),
  );
  private readonly waiting = new StandStills();

  constructor(private readonly options: DeadLetterTableOptions) {}

  /**
   * Resolves once it is stored; while the database is away that takes as long as it is, or until {@link stop}. One that cannot
   * be stored as it is keeps nobody waiting: its bytes are.
   */
  readonly take = async (letter: DeadLetterDelivery): Promise<void> => {
    const place = letter.message ? `${letter.origin}, message ${letter.message.id}` : letter.origin;
    this.waiting.begin(place, 'its dead letter cannot be stored');
    try {
      await this.storeAsItIs(letter).catch((error: unknown) => this.storeBytes(letter, error));
    } finally {
      this.waiting.end(place);
    }
  };

  /** What is not stored stays with its broker. */
  stop(): void {
    this.stopped.abort();
  }

  /** What could not be stored for so long. */
  standStills(ms: number): StandStill[] {
    return this.waiting.longerThan(ms);
  }

  /** Async, so that what cannot even be written as JSON is a rejection. */
  private async storeAsItIs(letter: DeadLetterDelivery): Promise<void> {
    await this.writes.call(rowOf(letter, this.options.redrivable));
  }

  private async storeBytes(letter: DeadLetterDelivery, error: unknown): Promise<void> {
    if (this.stopped.signal.aborted) throw error;
    const { consumer, logger } = this.options;
    const row = asBytes(letter, error);
    const what = 'a dead letter could not be stored as it is; its bytes are kept';
    logger.error(what, { consumer, id: row.id, origin: letter.origin, error: errorText(error) });
    await this.bytes.call(row);
  }

  private async write(rows: readonly DeadLetterRow[]): Promise<readonly undefined[]> {
    const newest = new Map<string, DeadLetterRow>();
    for (const row of rows) {
      const other = newest.get(row.id);
      if (!other || row.redrives >= other.redrives) newest.set(row.id, row);
    }
    await this.insert([...newest.values()], rows.length > 1 ? 1 : 3);
    return [];
  }

  /**
   * Tried until it succeeds: giving them back to the broker would only bring them here again. But what fails `most` times for
   * another reason than a database that is away is thrown.
   */
  private async insert(rows: readonly DeadLetterRow[], most: number): Promise<void> {
    const { dataSource, consumer, kind, logger, onOpened } = this.options;
    const values = [consumer, kind, ...columnsOf(rows)];
    let refusals = 0;
    for (let failures = 1; ; failures += 1) {
      try {
        if (onOpened) await inTransaction(dataSource, (tx) => this.open(tx, rows, values, onOpened));
        else await runStatement(dataSource, insert, values);
        return;
      } catch (error) {
        if (this.stopped.signal.aborted) throw error;
        const outage = outageOf(error);
        if (outage?.name !== 'DatabaseUnavailableError') refusals += 1;
        if (refusals >= most) throw error;
        const details = { consumer, count: rows.length, error: errorText(error) };
        logger.warn('dead letters could not be stored; they stay at the broker, and it is tried again', details);
        await sleep(backoffDelay(failures, { maxMs: 10_000 }), undefined, { signal: this.stopped.signal });
      }
    }
  }

  private async open(
    tx: Transaction,
    rows: readonly DeadLetterRow[],
    values: readonly unknown[],
    onOpened: NonNullable<DeadLetterTableOptions['onOpened']>,
  ): Promise<void> {
    const opened = new Set((await tx.query<{ id: string }>(insert, [...values])).map(({ id }) => id));
    const messages = rows.flatMap(({ id, message, reason, time: since }) =>
      message !== undefined && opened.has(id) ? [{ message: JSON.parse(message) as Message, reason, since }] : [],
    );
    await onOpened(tx, messages);
  }
}

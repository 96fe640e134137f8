import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { DataSource } from 'typeorm';
import { Coalesced } from '../coalesced.js';
import { runStatement, type Statement } from '../database/transaction.js';
import { backoffDelay } from '../failure-policy.js';
import { errorText, type Logger } from '../logger.js';
import type { DeadLetterDelivery } from '../transport/dead-letter.js';

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
         WHERE known.status = 'scheduled' AND excluded.redrives >= known.redrives`,
};

export interface DeadLetterTableOptions {
  /** The command queue or the consumer group: its name in the inbox. */
  readonly consumer: string;
  readonly kind: 'command' | 'event';
  /** Whether the consumer can be given a message again that it could not handle. Default: yes. */
  readonly redrivable?: boolean;
  readonly dataSource: DataSource;
  readonly logger: Logger;
}

interface Row extends DeadLetterDelivery {
  readonly id: string;
}

/** Keeps the dead letters of a consumer, each once however often it is delivered, many with one statement. */
export class DeadLetterTable {
  private readonly writes = new Coalesced<Row, void>((rows) => this.write(rows));
  private readonly stopped = new AbortController();

  constructor(private readonly options: DeadLetterTableOptions) {}

  /** Resolves once it is stored; while the database is away that takes as long as it is, or until {@link stop}. */
  readonly take = (letter: DeadLetterDelivery): Promise<void> =>
    this.writes.call({ ...letter, id: letter.message?.id ?? digestOf(letter) });

  /** What is not stored stays with its broker. */
  stop(): void {
    this.stopped.abort();
  }

  private async write(rows: readonly Row[]): Promise<readonly void[]> {
    const newest = new Map<string, Row>();
    for (const row of rows) {
      const other = newest.get(row.id);
      if (!other || redrivesOf(row) >= redrivesOf(other)) newest.set(row.id, row);
    }
    await this.insert([...newest.values()]);
    return rows.map(() => undefined);
  }

  /** Tried until it succeeds: giving them back to the broker would only bring them here again. */
  private async insert(rows: readonly Row[]): Promise<void> {
    const { dataSource, consumer, kind, logger, redrivable = true } = this.options;
    const columns = [
      rows.map(({ id }) => clean(id)),
      rows.map(({ message }) => clean(message?.type)),
      rows.map(({ message, raw }) => clean(message ? message.subject : raw.key ? textOf(raw.key) : undefined)),
      rows.map(({ message }) => message?.sequence),
      rows.map(({ errorType }) => clean(errorType)),
      rows.map(({ reason }) => clean(reason)),
      rows.map(({ origin }) => clean(origin)),
      rows.map(({ attempts }) => attempts),
      rows.map(({ time }) => time),
      rows.map(({ message }) => message && JSON.stringify(message)),
      rows.map(({ message, raw }) => (message ? undefined : raw.content)),
      rows.map(({ message, raw }) => (message ? undefined : JSON.stringify(toJson(raw.headers)))),
      rows.map(({ message }) => redrivable && message !== undefined),
      rows.map(redrivesOf),
      rows.map(({ stack }) => clean(stack)),
    ];
    for (let failures = 1; ; failures += 1) {
      try {
        await runStatement(dataSource, insert, [consumer, kind, ...columns]);
        return;
      } catch (error) {
        if (this.stopped.signal.aborted) throw error;
        const details = { consumer, count: rows.length, error: errorText(error) };
        logger.warn('dead letters could not be stored; they stay at the broker, and it is tried again', details);
        await sleep(backoffDelay(failures, { maxMs: 10_000 }), undefined, { signal: this.stopped.signal });
      }
    }
  }
}

const redrivesOf = ({ message }: DeadLetterDelivery): number => message?.redrives ?? 0;

/** The same for each delivery of one dead letter. */
function digestOf({ raw, origin }: DeadLetterDelivery): string {
  const hash = createHash('sha256').update(JSON.stringify([origin, toJson(raw.headers), raw.key?.toString('base64')]));
  return `sha256-${hash
    .update(raw.content ?? '')
    .digest('hex')
    .slice(0, 32)}`;
}

/** PostgreSQL's texts hold any character but this one. */
const clean = (text: string | undefined): string | undefined => text?.replaceAll('\0', '\u{FFFD}');

/** Header values as JSON: bytes as text if they are UTF-8, as base64 if not. */
function toJson(value: unknown): unknown {
  if (Buffer.isBuffer(value)) return textOf(value);
  if (Array.isArray(value)) return value.map(toJson);
  if (typeof value !== 'object' || value === null) return typeof value === 'bigint' ? String(value) : value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, toJson(member)]));
}

/** Exact: what is no UTF-8 is given as `base64:…`. */
function textOf(bytes: Buffer): string {
  const text = bytes.toString('utf8');
  return Buffer.from(text).equals(bytes) ? text : `base64:${bytes.toString('base64')}`;
}

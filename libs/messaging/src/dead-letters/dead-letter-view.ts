import type { DataSource } from 'typeorm';

/** Which dead letters; what is left out does not matter. */
export interface DeadLetterFilter {
  /** Message ids, or the digests of what is no message. */
  readonly ids?: readonly string[] | undefined;
  readonly consumer?: string | undefined;
  readonly type?: string | undefined;
  readonly errorType?: string | undefined;
  /** Subject of the message: `user-0190…`. */
  readonly key?: string | undefined;
  /** Failed then or later. */
  readonly since?: Date | undefined;
  /** Failed before. */
  readonly until?: Date | undefined;
  /** Somewhere in the reason or in the message. */
  readonly text?: string | undefined;
  /**
   * `scheduled`: on its way to its consumer again, at once or at its time. `discarded`: given up, because it is invalid, a
   * business rule has refused it, or an operator has said so; nobody has to look at it. Default `open`.
   */
  readonly status?: DeadLetterStatus | undefined;
}

export type DeadLetterStatus = 'open' | 'scheduled' | 'discarded';

export interface DeadLetter {
  readonly id: string;
  readonly consumer: string;
  /**
   * Successors of a sequenced one wait behind it. An outgoing one was refused by its broker, its consumer is `outbox`, and its
   * headers say where it was to go; if it is an event, the later ones of its key wait behind it.
   */
  readonly kind: 'command' | 'event' | 'sequenced-event' | 'outgoing';
  readonly status: DeadLetterStatus;
  /** None of what is no message. */
  readonly type: string | null;
  readonly key: string | null;
  readonly sequence: number | null;
  readonly errorType: string;
  readonly reason: string;
  /** Queue or `topic[partition]@offset`. */
  readonly origin: string;
  /** Made since the last redrive. */
  readonly attempts: number;
  /** ISO 8601, in UTC. */
  readonly firstFailedAt: string;
  readonly failedAt: string;
  readonly redrives: number;
  /** False when it is no message, or one that its consumer can never take. */
  readonly redrivable: boolean;
}

export interface DeadLetterDetails extends DeadLetter {
  /** Of the error that its handler threw; null where none did. */
  readonly stack: string | null;
  /** The whole message; null when the bytes are none. */
  readonly message: unknown;
  /** In base64, of what is no message. */
  readonly raw: string | null;
  readonly headers: unknown;
  /** Earlier failures, oldest first; the 20 latest. */
  readonly history: readonly {
    readonly failedAt: string;
    readonly errorType: string;
    readonly reason: string;
    readonly attempts: number;
    readonly redrivenAt: string;
  }[];
}

export interface DeadLetterGroup {
  readonly consumer: string;
  readonly type: string | null;
  readonly errorType: string;
  readonly count: number;
  /** Failures, ISO 8601. */
  readonly first: string;
  readonly last: string;
}

export interface DeadLetterPage {
  /** The newest first. */
  readonly items: readonly DeadLetter[];
  /** Give it as `after` to get the next page; none after the last. */
  readonly next?: string;
}

const instant = (column: string): string => `to_char(${column} AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')`;

const summary = `id, consumer, kind, status, type, key, sequence::float8 AS sequence, error_type AS "errorType", reason, origin,
  attempts, ${instant('first_failed_at')} AS "firstFailedAt", ${instant('failed_at')} AS "failedAt", redrives, redrivable`;

const details = `${summary}, stack, message, encode(raw, 'base64') AS raw, headers, history`;

/** `WHERE …` for the view, with its parameters from `$1` on. */
export function conditionsOf({ status = 'open', text, ...filter }: DeadLetterFilter): {
  where: string;
  values: unknown[];
} {
  const terms: [term: (n: number) => string, value: unknown][] = [
    [(n) => `status = $${n}`, status],
    [(n) => `id = ANY($${n})`, filter.ids],
    [(n) => `consumer = $${n}`, filter.consumer],
    [(n) => `type = $${n}`, filter.type],
    [(n) => `error_type = $${n}`, filter.errorType],
    [(n) => `key = $${n}`, filter.key],
    [(n) => `failed_at >= $${n}`, filter.since],
    [(n) => `failed_at < $${n}`, filter.until],
    [(n) => `strpos(concat(reason, ' ', message), $${n}) > 0`, text],
  ];
  const wanted = terms.filter(([, value]) => value !== undefined);
  return {
    where: `WHERE ${wanted.map(([term], index) => term(index + 1)).join(' AND ')}`,
    values: wanted.map(([, value]) => value),
  };
}

/** At most `limit`, the newest first. `after` is the `next` of the page before. */
export async function listDeadLetters(
  dataSource: DataSource,
  filter: DeadLetterFilter,
  { after, limit = 50 }: { readonly after?: string | undefined; readonly limit?: number | undefined } = {},
): Promise<DeadLetterPage> {
  const { where, values } = conditionsOf(filter);
  const before = after === undefined ? [] : positionOf(after);
  const n = values.length;
  const further = after === undefined ? '' : ` AND (failed_at, consumer, id) < ($${n + 1}, $${n + 2}, $${n + 3})`;
  const items = await dataSource.query<DeadLetter[]>(
    `SELECT ${summary} FROM dead_letters ${where}${further}
      ORDER BY failed_at DESC, consumer DESC, id DESC LIMIT $${n + before.length + 1}`,
    [...values, ...before, limit + 1],
  );
  const last = items.length > limit ? items[limit - 1] : undefined;
  return { items: items.slice(0, limit), ...(last ? { next: cursorOf(last) } : {}) };
}

const cursorOf = ({ failedAt, consumer, id }: DeadLetter): string =>
  Buffer.from(JSON.stringify([failedAt, consumer, id])).toString('base64url');

function positionOf(cursor: string): string[] {
  try {
    const position: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString());
    if (Array.isArray(position) && position.length === 3) return position.map(String);
  } catch {
    // Said below.
  }
  throw new Error('this is no place to go on from; give the `next` of the page before, or leave it out');
}

/** How many of each kind there are, the most frequent first; the 1 000 most frequent kinds. */
export function groupDeadLetters(dataSource: DataSource, filter: DeadLetterFilter): Promise<DeadLetterGroup[]> {
  const { where, values } = conditionsOf(filter);
  return dataSource.query(
    `SELECT consumer, type, error_type AS "errorType", count(*)::int AS count, ${instant('min(failed_at)')} AS first,
            ${instant('max(failed_at)')} AS last
       FROM dead_letters ${where} GROUP BY consumer, type, error_type ORDER BY count(*) DESC, 1, 2, 3 LIMIT 1000`,
    values,
  );
}

/** All there is to know of one message, once per consumer in which it failed. */
export function showDeadLetter(dataSource: DataSource, id: string, consumer?: string): Promise<DeadLetterDetails[]> {
  return dataSource.query(
    `SELECT ${details} FROM dead_letters WHERE id = $1 AND ($2::text IS NULL OR consumer = $2) ORDER BY consumer`,
    [id, consumer],
  );
}

/** Each as a line of JSON ({@link DeadLetterDetails}), the newest first; read page by page. */
export async function* deadLetterLines(dataSource: DataSource, filter: DeadLetterFilter): AsyncGenerator<string> {
  const { where, values } = conditionsOf(filter);
  const n = values.length;
  let position: unknown[] = ['infinity', '', ''];
  for (;;) {
    const rows = await dataSource.query<DeadLetterDetails[]>(
      `SELECT ${details} FROM dead_letters ${where} AND (failed_at, consumer, id) < ($${n + 1}, $${n + 2}, $${n + 3})
        ORDER BY failed_at DESC, consumer DESC, id DESC LIMIT 200`,
      [...values, ...position],
    );
    for (const row of rows) yield JSON.stringify(row);
    const last = rows.at(-1);
    if (!last) return;
    position = [last.failedAt, last.consumer, last.id];
  }
}

import { createHash } from 'node:crypto';
import { inspect } from 'node:util';
import { errorText } from '../logger.js';
import { bounds, shortened, storableInstant, storableText } from '../storable.js';
import { longestReason, type DeadLetterDelivery } from '../transport/dead-letter.js';
import { bytesAsText, headerJson } from './header-json.js';

/** A dead letter as its table takes it. */
export interface DeadLetterRow {
  readonly id: string;
  readonly type: string | undefined;
  readonly key: string | undefined;
  readonly sequence: number | undefined;
  readonly errorType: string;
  readonly reason: string;
  readonly origin: string;
  readonly attempts: number;
  readonly time: string;
  /** JSON, as the headers are. */
  readonly message: string | undefined;
  readonly raw: Buffer | null | undefined;
  readonly headers: string | undefined;
  readonly redrivable: boolean;
  readonly redrives: number;
  readonly stack: string | undefined;
}

const names: readonly (keyof DeadLetterRow)[] = [
  ...(['id', 'type', 'key', 'sequence', 'errorType', 'reason', 'origin', 'attempts', 'time'] as const),
  ...(['message', 'raw', 'headers', 'redrivable', 'redrives', 'stack'] as const),
];

/** One array for each column, in the order of the statement. */
export const columnsOf = (rows: readonly DeadLetterRow[]): unknown[][] =>
  names.map((name) => rows.map((row) => row[name]));

const textOf = (text: string | undefined, most: number): string | undefined =>
  text === undefined ? undefined : shortened(storableText(text), most);

/** Whoever wrote the headers that it was read from. */
const reasonOf = ({ errorType, reason, stack, origin, attempts, time }: DeadLetterDelivery) => ({
  errorType: textOf(errorType, bounds.nameBytes) ?? 'Error',
  reason: textOf(reason, longestReason) ?? '',
  stack: textOf(stack, 2 * longestReason),
  origin: textOf(origin, bounds.keyBytes) ?? '',
  attempts: attempts > 0 ? Math.min(Math.trunc(attempts), bounds.attempts) : 0,
  time: storableInstant(time) ?? new Date().toISOString(),
});

/** @throws RangeError or TypeError when it cannot be written as JSON */
export function rowOf(letter: DeadLetterDelivery, redrivable = true): DeadLetterRow {
  const { message, raw } = letter;
  const common = reasonOf(letter);
  if (message) {
    const { id, type, subject: key, sequence, redrives = 0 } = message;
    const kept = { message: JSON.stringify(message), raw: undefined, headers: undefined, redrivable, redrives };
    return { id, type, key, sequence, ...common, ...kept };
  }
  const headers = JSON.stringify(headerJson(raw.headers));
  return {
    ...{ id: digestOf([letter.origin, headers, raw.key?.toString('base64')], raw.content), type: undefined },
    key: raw.key ? bytesAsText(raw.key) : undefined,
    ...{ sequence: undefined, ...common, message: undefined, raw: raw.content, headers },
    ...{ redrivable: false, redrives: 0 },
  };
}

/** The last resort, in which nothing comes from outside but bytes. */
export function asBytes(letter: DeadLetterDelivery, error: unknown): DeadLetterRow {
  const { raw, origin } = letter;
  const common = reasonOf(letter);
  const headers = inspect(raw.headers, { depth: 5, maxStringLength: 10_000, breakLength: Infinity });
  return {
    id: digestOf([origin, headers, raw.key?.toString('base64')], raw.content),
    ...{ type: undefined, key: undefined, sequence: undefined, ...common, errorType: 'Unstorable' },
    reason: ascii(`it could not be stored as it is (${errorText(error)}): ${common.reason}`),
    origin: ascii(common.origin),
    ...{ message: undefined, raw: raw.content, headers: JSON.stringify({ text: ascii(headers) }), stack: undefined },
    ...{ redrivable: false, redrives: 0 },
  };
}

const ascii = (text: string): string => text.slice(0, longestReason).replace(/[^ -~]/g, '?');

/** The same for each delivery of one dead letter. */
function digestOf(parts: readonly unknown[], content: Buffer | null): string {
  const hash = createHash('sha256').update(JSON.stringify(parts));
  return `sha256-${hash
    .update(content ?? '')
    .digest('hex')
    .slice(0, 32)}`;
}

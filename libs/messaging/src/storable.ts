import { TerminalError } from './errors.js';

/** What fits into every column, index, header and statement that a message may come to. */
export const bounds = {
  /** Bytes of ids, types, addresses: AMQP has no longer ones. */
  nameBytes: 255,
  /** Bytes of a subject: with the name of a consumer it is a key of an index, which takes 2,700. */
  keyBytes: 1_000,
  /** Levels of arrays and objects in JSON. Whoever walks through them recursively needs an end. */
  depth: 256,
  /** Of a reply: it is passed on inside of larger values. */
  replyDepth: 128,
  /** PostgreSQL's `integer`. */
  integer: 2_147_483_647,
  /** Attempts and redrives, which are counted on. */
  attempts: 1_000_000,
} as const;

/** What PostgreSQL refuses in a text, and in JSON as soon as somebody reads it there; and what to send instead. */
export function textProblem(text: string): string | undefined {
  if (text.includes('\0')) return 'holds the character U+0000; leave it out';
  return text.isWellFormed()
    ? undefined
    : 'holds half a surrogate pair, as a cut emoji leaves it; send whole characters';
}

// Control characters and what stands for bytes that were no UTF-8: two ids must not look the same.
const unfitForNames = /[\u0000-\u001f\u007f\ufffd]/;

/** The same for an id, a type, an address or a key. */
export function nameProblem(name: string, mostBytes: number = bounds.nameBytes): string | undefined {
  // A character is three bytes at most: few have to be counted.
  if (3 * name.length > mostBytes && Buffer.byteLength(name) > mostBytes) {
    return `takes ${Buffer.byteLength(name)} bytes, more than ${mostBytes}; send a shorter one`;
  }
  if (!unfitForNames.test(name) && name.isWellFormed()) return undefined;
  return 'holds a control character or what is no UTF-8; send printable characters';
}

export interface Unstorable {
  /** `variables.name`, `items.3`; empty for the value itself. */
  readonly field: string;
  readonly problem: string;
}

/** The first place of a JSON value that cannot be stored. `depth`: so many levels are around it. */
export function findUnstorable(value: unknown, depth = 0): Unstorable | undefined {
  if (typeof value === 'string') return found('', textProblem(value));
  if (typeof value === 'number') return Number.isFinite(value) ? undefined : found('', noNumber);
  if (typeof value === 'bigint') return found('', 'is a bigint; send a number or a text');
  if (typeof value !== 'object' || value === null) return undefined;
  if (depth >= bounds.depth) return found('', tooDeep);
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index += 1) {
      const inside = findUnstorable(value[index], depth + 1);
      if (inside) return within(String(index), inside);
    }
    return undefined;
  }
  for (const name of Object.keys(value)) {
    const ofName = textProblem(name);
    if (ofName) return found(storableText(name), `has a name that ${ofName}`);
    const inside = findUnstorable((value as Record<string, unknown>)[name], depth + 1);
    if (inside) return within(name, inside);
  }
  return undefined;
}

/** JSON writes it as null: who reads it later would find another value than was sent. */
const noNumber = 'is beyond the numbers of JSON; send one of at most 1.8e308, or a text';
const tooDeep = `is nested too deep, ${bounds.depth} levels are taken (${bounds.replyDepth} of a reply); send a flatter value`;

const found = (field: string, problem: string | undefined): Unstorable | undefined =>
  problem === undefined ? undefined : { field, problem };

/** Deep places are named by their first steps. */
const longestField = 200;

function within(step: string, { field, problem }: Unstorable): Unstorable {
  const path = field === '' ? step : `${step}.${field}`;
  return { field: path.length > longestField ? `${path.slice(0, longestField)}…`.toWellFormed() : path, problem };
}

/** For what our own code says: what cannot be stored is replaced by U+FFFD, and a number that is none by null. */
export const storableText = (text: string): string => text.replaceAll('\0', '\u{FFFD}').toWellFormed();

/**
 * A JSON value with such texts replaced; the same one where there are none.
 * @throws TerminalError when that does not help: it is too deep, or no JSON
 */
export function storableValue<T>(value: T, what: string, depth: number = bounds.depth): T {
  const outer = bounds.depth - depth;
  if (!findUnstorable(value, outer)) return value;
  const mended = replaceTexts(value, 0);
  const left = findUnstorable(mended, outer);
  if (!left) return mended as T;
  throw new TerminalError(`${what} cannot be stored: ${left.field || 'it'} ${left.problem}`);
}

function replaceTexts(value: unknown, depth: number): unknown {
  if (typeof value === 'string') return storableText(value);
  if (typeof value === 'number' && !Number.isFinite(value)) return null;
  if (typeof value !== 'object' || value === null || depth >= bounds.depth) return value;
  if (Array.isArray(value)) return value.map((item) => replaceTexts(item, depth + 1));
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [storableText(name), replaceTexts(item, depth + 1)]),
  );
}

/** Years that ISO 8601 and PostgreSQL write alike. */
const [earliest, latest] = [Date.parse('0001-01-01T00:00:00.000Z'), Date.parse('9999-12-31T23:59:59.999Z')];

/** An instant as it is stored, or undefined when it is none. */
export function storableInstant(value: string | number): string | undefined {
  if (typeof value === 'string' && !/^\d{4}-\d\d-\d\d/.test(value)) return undefined;
  const at = new Date(value).getTime();
  return at >= earliest && at <= latest ? new Date(at).toISOString() : undefined;
}

/** Cut to so many characters, none of them half. */
export const shortened = (text: string, most: number): string =>
  text.length > most ? text.slice(0, most).toWellFormed() : text;

import { isUtf8 } from 'node:buffer';
import { inspect } from 'node:util';
import { UndecodableError } from './errors.js';
import { bounds, findUnstorable, nameProblem, shortened, storableInstant } from './storable.js';

// What both transports read of a message that anybody may have written. Each throws UndecodableError with the field, its
// limit and what to send instead.

/** An id, a type, an address or a key. */
export function incomingName(field: string, value: string, mostBytes: number = bounds.nameBytes): string {
  const problem = nameProblem(value, mostBytes);
  if (problem) throw new UndecodableError(`${field} ${problem}`);
  return value;
}

export function incomingCount(field: string, value: unknown, most: number = bounds.integer): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= most) return value;
  const given = inspect(value, { depth: 0, maxStringLength: 100 });
  throw new UndecodableError(`${field} must be an integer of 1 or more, at most ${most}, it is ${given}`);
}

const canonicalInstant = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

export function incomingInstant(field: string, value: string | number, wanted: string): string {
  const instant = storableInstant(value);
  if (instant === undefined) {
    const given = typeof value === 'string' ? `"${shortened(value, 100)}"` : value;
    throw new UndecodableError(`${field} ${given} is no instant; send ${wanted}`);
  }
  return typeof value === 'string' && canonicalInstant.test(value) ? value : instant;
}

/** W3C Trace Context: whoever cannot read it goes on without it. */
export const incomingTrace = (value: string): string | undefined =>
  /^[\da-f]{2}-[\da-f]{32}-[\da-f]{16}-[\da-f]{2}$/.test(value) ? value : undefined;

export interface IncomingJson {
  readonly value: unknown;
  /** Why it cannot be stored. */
  readonly problem?: string;
}

/** How JSON writes what is not allowed to stand in it. */
const escape = Buffer.from('\\u');
/** A number that may be too large: three digits of exponent, or hundreds before it. */
const huge = /(?:^|[:[,\s])-?\d[\d.]*[eE]\+?\d{3}|\d{309}/;

/** `part` is what the transport calls it: body, value. */
export function incomingJson(part: string, content: Buffer, depth: number = bounds.depth): IncomingJson {
  const text = content.toString('utf8');
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    if (!isUtf8(content)) throw new UndecodableError(`the ${part} is not UTF-8; send JSON encoded as UTF-8`);
    throw new UndecodableError(`the ${part} is not JSON (${(error as Error).message}); send a JSON value`);
  }
  // toString() has replaced broken bytes silently.
  if (!isUtf8(content)) return { value, problem: `the ${part} is not UTF-8; send JSON encoded as UTF-8` };
  // A level takes two bytes, and what a text must not hold has to be escaped: most messages need not be walked through.
  if (content.length <= 2 * depth && !content.includes(escape) && !huge.test(text)) return { value };
  const unstorable = findUnstorable(value, bounds.depth - depth);
  if (!unstorable) return { value };
  return {
    value,
    problem: `${unstorable.field || 'the'} ${unstorable.field ? `of the ${part}` : part} ${unstorable.problem}`,
  };
}

import type { Condition, Json } from './definition.js';
import { sizeOf } from './json-size.js';
import { BadReferenceError, resolve, type Values } from './reference.js';

/**
 * Whether a condition holds.
 * @param place names it in errors: `0.1 when`
 * @throws BadReferenceError when a reference has no value, two values cannot be ordered, or it compares more than
 * `values.mostBytes` in all
 */
export function holds(condition: Condition, place: string, values: Values): boolean {
  let left = values.mostBytes;
  const compared = (pair: [Json, Json], at: string): [Json, Json] => {
    const [one, other] = resolve(pair, at, values) as [Json, Json];
    left -= Math.min(sizeOf(one), sizeOf(other));
    if (left >= 0) return [one, other];
    throw new BadReferenceError(`${at}: the condition compares more than ${values.mostBytes} bytes; compare less`);
  };
  return evaluated(condition, place, compared);
}

function evaluated(
  condition: Condition,
  place: string,
  compared: (pair: [Json, Json], at: string) => [Json, Json],
): boolean {
  if ('all' in condition) return condition.all.every((each) => evaluated(each, place, compared));
  if ('any' in condition) return condition.any.some((each) => evaluated(each, place, compared));
  if ('not' in condition) return !evaluated(condition.not, place, compared);
  if ('equals' in condition) return same(...compared(condition.equals, `${place}.equals`));
  const [left, right] = compared(condition.lessThan, `${place}.lessThan`);
  if (typeof left === 'number' && typeof right === 'number') return left < right;
  if (typeof left === 'string' && typeof right === 'string') return left < right;
  const what = `${place}.lessThan: ${textOf(left)} and ${textOf(right)} cannot be ordered`;
  throw new BadReferenceError(`${what}; compare two numbers or two texts`);
}

const textOf = (value: Json): string => (sizeOf(value) <= 100 ? JSON.stringify(value) : `${typeof value}`);

/** The templates that a condition compares, each with its place. */
export function templatesIn(condition: Condition, place: string): { readonly template: Json; readonly at: string }[] {
  if ('not' in condition) return templatesIn(condition.not, `${place}.not`);
  if ('all' in condition) return condition.all.flatMap((each, index) => templatesIn(each, `${place}.all.${index}`));
  if ('any' in condition) return condition.any.flatMap((each, index) => templatesIn(each, `${place}.any.${index}`));
  if ('equals' in condition) return [{ template: condition.equals, at: `${place}.equals` }];
  return [{ template: condition.lessThan, at: `${place}.lessThan` }];
}

/** The order of fields does not matter, as in JSON. */
function same(left: Json, right: Json): boolean {
  if (typeof left !== 'object' || typeof right !== 'object' || left === null || right === null) return left === right;
  if (Array.isArray(left) || Array.isArray(right)) {
    const both = Array.isArray(left) && Array.isArray(right) && left.length === right.length;
    return both && left.every((item, index) => same(item, right[index] as Json));
  }
  const keys = Object.keys(left);
  if (keys.length !== Object.keys(right).length) return false;
  return keys.every((key) => Object.hasOwn(right, key) && same(left[key] as Json, right[key] as Json));
}

const kinds = ['equals', 'lessThan', 'all', 'any', 'not'];

/** Whether this may be a condition, by its one field: a schema with a variant for each kind would explain what is wrong with every one. */
export function looksLikeCondition(json: unknown): boolean {
  if (typeof json !== 'object' || json === null) return false;
  const [kind, ...others] = Object.keys(json);
  if (kind === undefined || others.length > 0 || !kinds.includes(kind)) return false;
  const content = (json as Record<string, unknown>)[kind];
  if (kind === 'not') return true;
  return Array.isArray(content) && (kind === 'all' || kind === 'any' || content.length === 2);
}

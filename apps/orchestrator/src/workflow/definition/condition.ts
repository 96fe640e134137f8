import type { Condition, Json } from './definition.js';
import { BadReferenceError, resolve, type Values } from './reference.js';

/**
 * Whether a condition holds.
 * @param place names it in errors: `0.1 when`
 * @throws BadReferenceError when a reference has no value, or two values cannot be ordered
 */
export function holds(condition: Condition, place: string, values: Values): boolean {
  if ('all' in condition) return condition.all.every((each) => holds(each, place, values));
  if ('any' in condition) return condition.any.some((each) => holds(each, place, values));
  if ('not' in condition) return !holds(condition.not, place, values);
  if ('equals' in condition) {
    const [left, right] = resolve(condition.equals, `${place}.equals`, values) as [Json, Json];
    return same(left, right);
  }
  const [left, right] = resolve(condition.lessThan, `${place}.lessThan`, values) as [Json, Json];
  if (typeof left === 'number' && typeof right === 'number') return left < right;
  if (typeof left === 'string' && typeof right === 'string') return left < right;
  const what = `${place}.lessThan: ${JSON.stringify(left)} and ${JSON.stringify(right)} cannot be ordered`;
  throw new BadReferenceError(`${what}; compare two numbers or two texts`);
}

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

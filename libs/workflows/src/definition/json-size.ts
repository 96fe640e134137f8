import type { Json } from './definition.js';

/** What is smaller is measured anew as fast as it would be looked up. */
const worthKeeping = 256;
const known = new WeakMap<object, number>();

/**
 * About how many bytes a value takes as JSON. A value that occurs in many places is measured once: what references put into a
 * template costs no more than the template itself, however large it is.
 */
export function sizeOf(value: Json): number {
  if (typeof value === 'string') return Buffer.byteLength(value) + 2;
  if (typeof value !== 'object' || value === null) return String(value).length;
  const kept = known.get(value);
  if (kept !== undefined) return kept;
  let bytes = 2;
  if (Array.isArray(value)) for (const item of value) bytes += sizeOf(item) + 1;
  else for (const key of Object.keys(value)) bytes += Buffer.byteLength(key) + 4 + sizeOf(value[key] as Json);
  if (bytes >= worthKeeping) known.set(value, bytes);
  return bytes;
}

/** Deeper tables and lists of headers are left out: nobody needs them, and a header may be nested thousands of times. */
const deepest = 20;

/** Header values as JSON: bytes as text if they are UTF-8, as base64 if not. */
export function headerJson(value: unknown, depth = 0): unknown {
  if (Buffer.isBuffer(value)) return bytesAsText(value);
  if (typeof value === 'bigint') return String(value);
  if (typeof value !== 'object' || value === null) return value;
  if (depth === deepest) return '…';
  if (Array.isArray(value)) return value.map((item) => headerJson(item, depth + 1));
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, headerJson(member, depth + 1)]));
}

/** Exact: what is no text that can be stored is given as `base64:…`. */
export function bytesAsText(bytes: Buffer): string {
  const text = bytes.toString('utf8');
  return Buffer.from(text).equals(bytes) && !bytes.includes(0) ? text : `base64:${bytes.toString('base64')}`;
}

const width = 32;

type Entry<V> = readonly [key: string, value: V];
type Bucket<V> = readonly Entry<V>[];
type Row<V> = readonly (Bucket<V> | undefined)[];

/**
 * An immutable map for states that grow: `set` copies one row of each of two levels and one bucket, not everything. (A
 * state must not be changed in place: the runtime may still roll back and use the one before.)
 */
export class PersistentMap<V> {
  private constructor(
    private readonly rows: readonly (Row<V> | undefined)[],
    readonly size: number,
  ) {}

  static empty<V>(): PersistentMap<V> {
    return new PersistentMap<V>([], 0);
  }

  get(key: string): V | undefined {
    const [row, column] = placeOf(key);
    return this.rows[row]?.[column]?.find(([known]) => known === key)?.[1];
  }

  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  set(key: string, value: V): PersistentMap<V> {
    const [row, column] = placeOf(key);
    const columns = this.rows[row] ?? [];
    const others = (columns[column] ?? []).filter(([known]) => known !== key);
    const bucket = [...others, [key, value] as const];
    const grown = this.has(key) ? this.size : this.size + 1;
    return new PersistentMap(replaced(this.rows, row, replaced(columns, column, bucket)), grown);
  }

  /** In no particular order. */
  entries(): Entry<V>[] {
    return this.rows.flatMap((columns) => columns ?? []).flatMap((bucket) => bucket ?? []);
  }
}

function replaced<T>(items: readonly T[], index: number, item: T): T[] {
  const copy = items.slice();
  copy[index] = item;
  return copy;
}

function placeOf(key: string): [row: number, column: number] {
  let hash = 0;
  for (let index = 0; index < key.length; index += 1) hash = (Math.imul(hash, 31) + key.charCodeAt(index)) | 0;
  // The low bits of similar keys are similar, too: fold the high ones in.
  hash ^= hash >>> 15;
  return [hash & (width - 1), (hash >>> 5) & (width - 1)];
}

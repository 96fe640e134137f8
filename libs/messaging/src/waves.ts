import { groupBy } from './group-by.js';

/**
 * Items of many sequences, put together for handlers that take many at once: first the first items of all sequences by
 * their type, then the second ones, and so on. So the order within a sequence is kept, and no group has two items of one.
 */
export function* waves<T>(
  sequences: readonly (readonly T[])[],
  typeOf: (item: T) => string,
): Generator<[type: string, items: T[]]> {
  let left = sequences;
  for (let position = 0; left.length > 0; position += 1) {
    left = left.filter((sequence) => sequence.length > position);
    yield* groupBy(
      left.map((sequence) => sequence[position] as T),
      typeOf,
    );
  }
}

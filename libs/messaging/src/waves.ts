/**
 * Items of many sequences, put together for handlers that take many at once: first the first items of all sequences by
 * their type, then the next ones, and so on, so that the order within a sequence is kept. No group has two items of one
 * sequence, except of a type that `mayRepeat`: there it has all those that follow each other, in their order.
 */
export function* waves<T>(
  sequences: readonly (readonly T[])[],
  typeOf: (item: T) => string,
  mayRepeat: (type: string) => boolean = () => false,
): Generator<[type: string, items: T[]]> {
  let left = sequences.map((items) => ({ items, next: 0 }));
  while (left.length > 0) {
    const wave = new Map<string, T[]>();
    for (const sequence of left) takeInto(wave, sequence);
    yield* wave;
    left = left.filter(({ items, next }) => next < items.length);
  }

  function takeInto(wave: Map<string, T[]>, sequence: { readonly items: readonly T[]; next: number }): void {
    const { items } = sequence;
    const first = items[sequence.next];
    if (first === undefined) return;
    const type = typeOf(first);
    let group = wave.get(type);
    if (!group) wave.set(type, (group = []));
    const most = mayRepeat(type) ? items.length : sequence.next + 1;
    for (let item: T | undefined = first; item !== undefined && typeOf(item) === type; item = items[sequence.next]) {
      group.push(item);
      sequence.next += 1;
      if (sequence.next >= most) return;
    }
  }
}

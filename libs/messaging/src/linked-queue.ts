interface Node<T> {
  readonly value: T;
  next: Node<T> | undefined;
}

/** First in, first out, with every operation in constant time however long it gets (`Array.shift` is not). */
export class LinkedQueue<T> implements Iterable<T> {
  private head: Node<T> | undefined;
  private tail: Node<T> | undefined;
  private length = 0;

  get size(): number {
    return this.length;
  }

  get first(): T | undefined {
    return this.head?.value;
  }

  push(value: T): void {
    const node: Node<T> = { value, next: undefined };
    if (this.tail) this.tail.next = node;
    else this.head = node;
    this.tail = node;
    this.length += 1;
  }

  /** Puts it back in front of all others. */
  unshift(value: T): void {
    this.head = { value, next: this.head };
    this.tail ??= this.head;
    this.length += 1;
  }

  shift(): T | undefined {
    const node = this.head;
    if (!node) return undefined;
    this.head = node.next;
    if (!this.head) this.tail = undefined;
    this.length -= 1;
    return node.value;
  }

  clear(): void {
    this.head = this.tail = undefined;
    this.length = 0;
  }

  *[Symbol.iterator](): Iterator<T> {
    for (let node = this.head; node; node = node.next) yield node.value;
  }
}

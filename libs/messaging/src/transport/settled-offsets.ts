/** A record between its begin and the moment when the position has passed it. */
export interface OffsetTicket {
  readonly offset: bigint;
  settled: boolean;
}

/**
 * The window of one partition between the first record that has not settled and the last that was begun. Records settle
 * in any order, but the position to commit only moves over a prefix without gaps, so a crash loses nothing. It goes by
 * the records begun and not by arithmetic on offsets: compacted and transactional topics have holes.
 */
export class SettledOffsets {
  private tickets: OffsetTicket[] = [];
  private head = 0;
  private lastBegun = -1n;
  private next: bigint | undefined;

  /** Offset of the first record that a restarted consumer has to read; undefined while nothing has settled. */
  get position(): bigint | undefined {
    return this.next;
  }

  /** Offset of the record that keeps the position where it is. */
  get first(): bigint | undefined {
    return this.tickets[this.head]?.offset;
  }

  /** Records begun that the position does not cover yet, settled or not. */
  get size(): number {
    return this.tickets.length - this.head;
  }

  /** @throws RangeError when the offsets do not rise */
  begin(offset: bigint): OffsetTicket {
    if (offset <= this.lastBegun) {
      throw new RangeError(`offset ${offset} came after ${this.lastBegun}: begin a partition's records in their order`);
    }
    this.lastBegun = offset;
    const ticket = { offset, settled: false };
    this.tickets.push(ticket);
    return ticket;
  }

  /** @returns whether the position moved */
  settle(ticket: OffsetTicket): boolean {
    ticket.settled = true;
    const before = this.head;
    for (let first = this.tickets[this.head]; first?.settled; first = this.tickets[this.head]) {
      this.next = first.offset + 1n;
      this.head++;
    }
    const moved = this.head > before;
    if (moved) this.forgetCovered();
    return moved;
  }

  /** In strides: cutting the array at every record would make a long window quadratic. */
  private forgetCovered(): void {
    if (this.head < this.tickets.length && this.head < 1024) return;
    this.tickets = this.tickets.slice(this.head);
    this.head = 0;
  }
}

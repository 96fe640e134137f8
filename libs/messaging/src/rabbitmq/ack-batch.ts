/** The two calls of an `amqplib` channel that settle deliveries. */
export interface Acknowledger {
  ack(message: { fields: { deliveryTag: number } }, allUpTo?: boolean): void;
  nack(message: { fields: { deliveryTag: number } }, allUpTo?: boolean, requeue?: boolean): void;
}

/**
 * Gathers the acknowledgements of one turn of the event loop. Everything below the oldest unsettled delivery takes one
 * "multiple" frame; what was settled out of order takes a frame of its own, so that no slow delivery holds back others.
 */
export class AckBatch {
  /** Delivery tags grow by one, so iterating the set goes from the oldest to the newest. */
  private readonly unsettled = new Set<number>();
  private gathered: number[] = [];

  constructor(private readonly channel: Acknowledger) {}

  delivered(tag: number): void {
    this.unsettled.add(tag);
  }

  ack(tag: number): void {
    this.unsettled.delete(tag);
    if (this.gathered.push(tag) === 1) setImmediate(() => this.flush());
  }

  requeue(tag: number): void {
    this.unsettled.delete(tag);
    this.quietly(() => this.channel.nack({ fields: { deliveryTag: tag } }, false, true));
  }

  /** The broker keeps it where dead letters of the queue go. */
  reject(tag: number): void {
    this.unsettled.delete(tag);
    this.quietly(() => this.channel.nack({ fields: { deliveryTag: tag } }, false, false));
  }

  flush(): void {
    const tags = this.gathered;
    this.gathered = [];
    const [oldestUnsettled = Infinity] = this.unsettled;
    let upTo = 0;
    for (const tag of tags) {
      if (tag < oldestUnsettled) upTo = Math.max(upTo, tag);
      else this.quietly(() => this.channel.ack({ fields: { deliveryTag: tag } }));
    }
    if (upTo > 0) this.quietly(() => this.channel.ack({ fields: { deliveryTag: upTo } }, true));
  }

  /** On a channel that has closed there is nothing to settle: the broker delivers again. */
  private quietly(settle: () => void): void {
    try {
      settle();
    } catch {
      this.gathered = [];
    }
  }
}

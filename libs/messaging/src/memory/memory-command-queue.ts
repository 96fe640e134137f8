import { LinkedQueue } from '../linked-queue.js';
import type { AmqpMessage } from '../rabbitmq/amqp-envelope.js';

/** One delivery of a message; a redelivery is another one, so that a late settlement of the first has no effect. */
export interface MemoryDelivery {
  readonly message: AmqpMessage;
  readonly redelivered: boolean;
}

export interface MemoryQueueConsumer {
  /** Has room for it now. */
  mayTake(delivery: MemoryDelivery): boolean;
  take(delivery: MemoryDelivery): void;
  /** Forgets and returns, oldest first, what it took and did not settle. */
  giveBack(): MemoryDelivery[];
}

/** A durable queue: gives each message to one of its consumers, in turn, as far as they are free. */
export class MemoryQueue {
  private readonly ready = new LinkedQueue<MemoryDelivery>();
  private readonly consumers: MemoryQueueConsumer[] = [];
  private next = 0;
  private scheduled = false;

  constructor(private running: boolean) {}

  push(message: AmqpMessage): void {
    this.ready.push({ message, redelivered: false });
    this.schedule();
  }

  messages(): AmqpMessage[] {
    return [...this.ready].map(({ message }) => message);
  }

  /** Messages that no consumer has. */
  get size(): number {
    return this.ready.size;
  }

  /** Takes the oldest one out for good. */
  pull(): AmqpMessage | undefined {
    return this.ready.shift()?.message;
  }

  attach(consumer: MemoryQueueConsumer): void {
    this.consumers.push(consumer);
    this.schedule();
  }

  detach(consumer: MemoryQueueConsumer): void {
    const index = this.consumers.indexOf(consumer);
    if (index >= 0) this.consumers.splice(index, 1);
  }

  /** To the front, in their old order. */
  takeBack(deliveries: readonly MemoryDelivery[]): void {
    for (const { message } of deliveries.toReversed()) this.ready.unshift({ message, redelivered: true });
    this.schedule();
  }

  /** Something became free or ready. Delivers in a turn of its own, so that no handler runs inside a send. */
  schedule(): void {
    if (this.scheduled || !this.running || this.ready.size === 0 || this.consumers.length === 0) return;
    this.scheduled = true;
    setImmediate(() => {
      this.scheduled = false;
      this.deliver();
    });
  }

  stop(): void {
    this.running = false;
    for (const consumer of this.consumers) this.takeBack(consumer.giveBack());
  }

  start(): void {
    this.running = true;
    this.schedule();
  }

  private deliver(): void {
    for (let delivery = this.ready.first; this.running && delivery; delivery = this.ready.first) {
      const consumer = this.nextFor(delivery);
      if (!consumer) return;
      this.ready.shift();
      consumer.take(delivery);
    }
  }

  private nextFor(delivery: MemoryDelivery): MemoryQueueConsumer | undefined {
    for (let n = 0; n < this.consumers.length; n++) {
      this.next = (this.next + 1) % this.consumers.length;
      const consumer = this.consumers[this.next];
      if (consumer?.mayTake(delivery)) return consumer;
    }
    return undefined;
  }
}

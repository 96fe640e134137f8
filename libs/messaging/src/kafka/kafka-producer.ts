import { NotConfirmedError, type PublishResult } from '../errors.js';
import type { Logger } from '../logger.js';
import type { KafkaConnection } from './kafka-client.js';
import { Publication, type PartitionedRecord } from './publication.js';
import { TopicProducer } from './topic-producer.js';

/** A producer per topic: a topic that confirms nothing keeps its own connection busy, and no other one. */
export class KafkaProducer {
  private readonly topics = new Map<string, TopicProducer>();
  /** Connected at start-up; the first topic takes it over. */
  private first: TopicProducer | undefined;
  private closing = false;

  constructor(
    private readonly connection: KafkaConnection,
    /** How long a publication may take, in milliseconds, before it is given up. */
    private readonly timeoutMs: number,
    private readonly logger: Logger,
  ) {}

  get connected(): boolean {
    return !this.closing && this.producers.some((producer) => producer.connected);
  }

  /** What became of each record, in their order. Never rejects. */
  async send(topic: string, records: readonly PartitionedRecord[]): Promise<PublishResult[]> {
    if (this.closing) {
      const error = new NotConfirmedError('the transport is closed: publish before close(), or use another');
      return records.map(() => error);
    }
    if (records.length === 0) return [];
    const publication = new Publication(topic, records, this.timeoutMs);
    this.producerOf(topic).send(publication);
    return publication.result;
  }

  /** Tries until there is a connection or the producer has ended. */
  connect(): Promise<void> {
    const [producer = (this.first = this.newProducer())] = this.producers;
    return producer.connect();
  }

  /** Waits for what has been published before, each no longer than its time. */
  async close(): Promise<void> {
    this.closing = true;
    await Promise.all(this.producers.map((producer) => producer.close()));
  }

  private get producers(): TopicProducer[] {
    return [...(this.first ? [this.first] : []), ...this.topics.values()];
  }

  private producerOf(topic: string): TopicProducer {
    let producer = this.topics.get(topic);
    if (!producer) {
      producer = this.first ?? this.newProducer();
      this.first = undefined;
      this.topics.set(topic, producer);
    }
    return producer;
  }

  private newProducer(): TopicProducer {
    return new TopicProducer(this.connection, this.timeoutMs, this.logger);
  }
}

import { setTimeout as sleep } from 'node:timers/promises';
import {
  MessageTooLargeError,
  NotConfirmedError,
  positionsOf,
  TerminalError,
  TransientError,
  UnroutableError,
} from '../errors.js';
import { errorText, silentLogger, type Logger } from '../logger.js';
import type { Message } from '../message.js';
import { deadLetterRecord, type DeadLetterHandler } from '../transport/dead-letter.js';
import type { Consumer, DeliveryHandler } from '../transport/delivery.js';
import {
  deadLetterTopic,
  type EventTransport,
  type SubscribeOptions,
  type TopicDeclaration,
} from '../transport/event-transport.js';
import type { RecordPosition } from '../transport/record-position.js';
import { publishEncoded } from '../transport/publish-encoded.js';
import { partitionOfKey } from '../transport/partition-of-key.js';
import { encodeCloudEvent } from './cloud-event.js';
import type { KafkaConnection } from './kafka-client.js';
import { KafkaConsumer } from './kafka-consumer.js';
import { KafkaProducer } from './kafka-producer.js';
import { sizeOf, type PartitionedRecord } from './publication.js';
import { SharedAdmin } from './shared-admin.js';
import { TopicCatalog } from './topic-catalog.js';
import { withinTime } from './within-time.js';

export interface KafkaOptions extends KafkaConnection {
  /** Default: quiet. What kafkajs logs comes through it too. */
  readonly logger?: Logger;
  /** How long a publication waits for its confirmation, also while disconnected; it counts from sending, in all at most twice as long. Default 5 000. */
  readonly publishTimeoutMs?: number;
  /** How long connecting and the first join of a group may take. Default 30 000. */
  readonly startTimeoutMs?: number;
  /**
   * After so long without a heartbeat a member's partitions go to others. Default 6 000, the least that brokers allow: who was
   * killed twice in a row keeps its group waiting for twice as long.
   */
  readonly sessionTimeoutMs?: number;
  /** Replicas of the topics created here. Default: the broker's `default.replication.factor`. */
  readonly replicationFactor?: number;
  /** Largest record: the `max.message.bytes` of the topics less 5 %. Default 1 000 000. */
  readonly maxRecordBytes?: number;
  /** How often it is looked whether topics have more partitions than before. Default 10 000. */
  readonly lookMs?: number;
}

/**
 * Apache Kafka through kafkajs 2.2.4. The group `g` on the topic `t` appears on the broker as `t.g`.
 * @throws TransientError when no broker answers within `startTimeoutMs`
 */
export async function connectKafka(options: KafkaOptions): Promise<EventTransport> {
  const transport = new KafkaEventTransport(options);
  await transport.connect();
  return transport;
}

class KafkaEventTransport implements EventTransport {
  private readonly logger: Logger;
  readonly longestSendMs: number;
  private readonly startTimeoutMs: number;
  private readonly lookMs: number;
  private readonly admin: SharedAdmin;
  private readonly topics: TopicCatalog;
  private readonly producer: KafkaProducer;
  private readonly consumers = new Set<KafkaConsumer>();

  constructor(private readonly options: KafkaOptions) {
    const { logger = silentLogger, startTimeoutMs = 30_000, publishTimeoutMs = 5_000, lookMs = 10_000 } = options;
    this.logger = logger;
    this.startTimeoutMs = startTimeoutMs;
    this.longestSendMs = publishTimeoutMs;
    this.lookMs = lookMs;
    this.admin = new SharedAdmin(options, logger);
    this.topics = new TopicCatalog(this.admin, { replicationFactor: options.replicationFactor, lookMs }, logger);
    this.producer = new KafkaProducer(options, publishTimeoutMs, logger);
  }

  get connected(): boolean {
    return this.producer.connected;
  }

  async connect(): Promise<void> {
    try {
      await this.inTime(this.producer.connect(), 'did not accept a connection');
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  declare(topics: readonly TopicDeclaration[]): Promise<void> {
    return this.topics.declare(topics);
  }

  async publish(topic: string, messages: readonly Message[]): Promise<RecordPosition[]> {
    return publishEncoded(
      messages,
      (message) => this.encode(message),
      async (records) => {
        const partitions = await this.partitionsOf(topic);
        const placed = records.map((record) => ({ ...record, partition: partitionOfKey(record.key, partitions) }));
        return this.producer.send(topic, placed);
      },
    );
  }

  private async partitionsOf(topic: string): Promise<number> {
    try {
      return await withinTime(this.topics.partitionsOf(topic), this.options.publishTimeoutMs ?? 5_000);
    } catch (error) {
      if (error instanceof TerminalError) throw new UnroutableError(error.message, { cause: error });
      throw new NotConfirmedError(`nothing was written to ${topic}: ${errorText(error)}`, { cause: error });
    }
  }

  async subscribe(options: SubscribeOptions, handler: DeliveryHandler): Promise<Consumer> {
    const { topic, group, concurrency = 100, flow = {}, longestOutageMs } = options;
    const isThere = await this.topics.exists(topic);
    const keepDeadLetter = options.deadLetters ?? (await this.deadLetterTopic(topic, group));
    const { sessionTimeoutMs = 6_000 } = this.options;
    const consumer = new KafkaConsumer({
      connection: this.options,
      ...{ topic, group, concurrency, flow, handler, keepDeadLetter, sessionTimeoutMs },
      rebalanceDrainMs: sessionTimeoutMs / 2,
      lookMs: this.lookMs,
      topicIsThere: (signal, onMissing) => this.topics.untilThere(topic, signal, onMissing),
      outageProblem: async () =>
        longestOutageMs === undefined ? undefined : this.topics.outageProblem(topic, longestOutageMs),
      logger: this.logger,
    });
    this.consumers.add(consumer);
    if (!isThere) return consumer;
    try {
      await this.inTime(consumer.firstJoin, `did not let this member join the group "${group}"`);
    } catch (error) {
      this.consumers.delete(consumer);
      await consumer.close(0);
      throw error;
    }
    return consumer;
  }

  /** Consumers first: what they still settle may have to be published. */
  async close(): Promise<void> {
    await Promise.all([...this.consumers].map((consumer) => consumer.close()));
    await this.producer.close();
    this.topics.close();
    this.admin.close();
  }

  private async deadLetterTopic(topic: string, group: string): Promise<DeadLetterHandler> {
    const name = deadLetterTopic(topic, group);
    await this.topics.ensureDeadLetterTopic(name);
    return async (letter) => {
      const record: PartitionedRecord = { ...deadLetterRecord(letter, group), partition: 0 };
      positionsOf(await this.producer.send(name, [record]));
    };
  }

  private encode(message: Message) {
    const { maxRecordBytes = 1_000_000 } = this.options;
    const record = encodeCloudEvent(message);
    const bytes = sizeOf(record);
    if (bytes <= maxRecordBytes) return record;
    throw new MessageTooLargeError(
      `message ${message.id} (${message.type}) takes ${bytes} bytes, more than the ${maxRecordBytes} of maxRecordBytes: ` +
        'publish a reference to the data, or raise that and the max.message.bytes of the topic',
    );
  }

  private async inTime(work: Promise<void>, complaint: string): Promise<void> {
    const { brokers } = this.options;
    const over = new AbortController();
    const late = sleep(this.startTimeoutMs, 'late' as const, { signal: over.signal }).catch(() => undefined);
    const winner = await Promise.race([work, late]);
    over.abort();
    if (winner !== 'late') return;
    throw new TransientError(
      `Kafka at ${brokers.join(', ')} ${complaint} within ${this.startTimeoutMs} ms: ` +
        'check that it runs and that its advertised.listeners can be reached from here',
    );
  }
}

import { Kafka, logLevel, type Admin } from 'kafkajs';
import { randomUUID } from 'node:crypto';

export interface ReadRecord {
  readonly topic: string;
  readonly key: string;
  /** Undefined when the record is no event of ours. */
  readonly id: string | undefined;
  readonly sequence: number | undefined;
}

/** Looks into Kafka with nothing of ours: kafkajs alone. */
export class KafkaReader {
  private readonly kafka: Kafka;
  private readonly admin: Admin;

  constructor(brokers: string) {
    this.kafka = new Kafka({
      clientId: 'chaos-reader',
      brokers: [brokers],
      logLevel: logLevel.NOTHING,
      retry: { retries: 30, maxRetryTime: 1_000 },
    });
    this.admin = this.kafka.admin();
  }

  async connect(): Promise<void> {
    await this.admin.connect();
  }

  async close(): Promise<void> {
    await this.admin.disconnect();
  }

  /** Every record of these topics, per partition in order. */
  async readAll(topics: readonly string[]): Promise<ReadRecord[]> {
    const left = new Map<string, number>();
    for (const topic of topics) {
      for (const { partition, offset } of await this.admin.fetchTopicOffsets(topic)) {
        if (Number(offset) > 0) left.set(`${topic}[${partition}]`, Number(offset));
      }
    }
    const records: ReadRecord[] = [];
    if (left.size === 0) return records;
    const groupId = `chaos-${randomUUID()}`;
    const consumer = this.kafka.consumer({ groupId });
    await consumer.connect();
    await consumer.subscribe({ topics: [...topics], fromBeginning: true });
    await new Promise<void>((resolve, reject) => {
      consumer
        .run({
          autoCommit: false,
          eachBatch: async ({ batch }) => {
            for (const { key, headers, offset } of batch.messages) {
              records.push({
                topic: batch.topic,
                key: key?.toString() ?? '',
                id: headers?.['ce_id']?.toString(),
                sequence: headers?.['ce_sequence'] === undefined ? undefined : Number(headers['ce_sequence']),
              });
              const place = `${batch.topic}[${batch.partition}]`;
              if (Number(offset) + 1 >= (left.get(place) ?? Infinity)) left.delete(place);
            }
            if (left.size === 0) resolve();
          },
        })
        .catch(reject);
    });
    await consumer.disconnect();
    await this.admin.deleteGroups([groupId]);
    return records;
  }

  /** Records that the groups of the services have not committed yet. */
  async lag(topics: readonly string[]): Promise<number> {
    const { groups } = await this.admin.listGroups();
    let lag = 0;
    for (const topic of topics) {
      const ends = await this.admin.fetchTopicOffsets(topic);
      for (const { groupId } of groups.filter((group) => group.groupId.startsWith(`${topic}.`))) {
        const [committed] = await this.admin.fetchOffsets({ groupId, topics: [topic] });
        for (const { partition, high } of ends) {
          const offset = committed?.partitions.find((one) => one.partition === partition)?.offset ?? '-1';
          lag += Number(high) - Math.max(0, Number(offset));
        }
      }
    }
    return lag;
  }
}

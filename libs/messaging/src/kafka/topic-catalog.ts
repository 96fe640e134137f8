import { setTimeout as sleep } from 'node:timers/promises';
import type { Admin, ITopicConfig } from 'kafkajs';
import { TerminalError, TransientError } from '../errors.js';
import { errorText, type Logger } from '../logger.js';
import { missingTopic, partitionCountMismatch } from '../transport/topic-problems.js';
import type { TopicDeclaration } from '../transport/event-transport.js';
import { createClient, type KafkaConnection } from './kafka-client.js';

/** How long an administrative request is tried, in milliseconds. */
const patienceMs = 15_000;

/** A dead letter waits for a human, so it never expires, and it is a little larger than the record that it was. */
const deadLetterConfig = [
  { name: 'retention.ms', value: '-1' },
  { name: 'max.message.bytes', value: String(4 * 1024 * 1024) },
];

/**
 * An older record of a key may be read for about a minute more: the log is cut into segments of that length, and a segment
 * is compacted once it is closed, by the next record that comes.
 */
const compactedConfig = [
  { name: 'cleanup.policy', value: 'compact' },
  { name: 'segment.ms', value: '60000' },
  { name: 'max.compaction.lag.ms', value: '60000' },
  { name: 'min.cleanable.dirty.ratio', value: '0.01' },
];

/** Which topics there are and with how many partitions. Connects only while it asks. */
export class TopicCatalog {
  private readonly counts = new Map<string, number>();
  private readonly lookups = new Map<string, Promise<number>>();

  constructor(
    private readonly connection: KafkaConnection,
    /** Replicas of the topics created here; undefined = the broker's default. */
    private readonly replicationFactor: number | undefined,
    private readonly logger: Logger,
  ) {}

  /** @throws TerminalError when a topic exists with another partition count; nothing is created then */
  async declare(topics: readonly TopicDeclaration[]): Promise<void> {
    const unknown = topics.filter(({ name, partitions }) => this.counts.get(name) !== partitions);
    if (unknown.length === 0) return;
    await this.withAdmin(async (admin) => {
      const before = await this.refresh(admin);
      assertCounts(unknown, before);
      await this.create(
        admin,
        unknown
          .filter(({ name }) => !before.has(name))
          .map(({ name, partitions, compacted }) => ({
            topic: name,
            numPartitions: partitions,
            ...(compacted ? { configEntries: compactedConfig } : {}),
          })),
      );
      // Another service may have created one at the same time, with a count of its own.
      assertCounts(unknown, this.counts);
    });
  }

  async ensureDeadLetterTopic(name: string): Promise<void> {
    if (this.counts.has(name)) return;
    await this.withAdmin(async (admin) => {
      if ((await this.refresh(admin)).has(name)) return;
      await this.create(admin, [{ topic: name, numPartitions: 1, configEntries: deadLetterConfig }]);
    });
  }

  /**
   * One promise per topic, for ever: publications that wait for it go on in the order in which they came.
   * @throws TerminalError when the topic does not exist
   */
  partitionsOf(name: string): Promise<number> {
    const known = this.lookups.get(name);
    if (known) return known;
    const lookup = this.lookUp(name);
    this.lookups.set(name, lookup);
    lookup.catch(() => this.lookups.delete(name));
    return lookup;
  }

  private async lookUp(name: string): Promise<number> {
    const count = this.counts.get(name) ?? (await this.withAdmin((admin) => this.refresh(admin))).get(name);
    if (count === undefined) throw new TerminalError(missingTopic(name));
    return count;
  }

  /** How many records of these partitions the group has not committed: the end of the log less the committed offset. */
  async lagOf(topic: string, groupId: string, partitions: readonly number[]): Promise<number> {
    if (partitions.length === 0) return 0;
    return this.withAdmin(async (admin) => {
      const [ends, groups] = await Promise.all([
        admin.fetchTopicOffsets(topic),
        admin.fetchOffsets({ groupId, topics: [topic] }),
      ]);
      const committed = new Map(groups[0]?.partitions.map(({ partition, offset }) => [partition, Number(offset)]));
      return ends
        .filter(({ partition }) => partitions.includes(partition))
        .reduce((sum, { partition, high, low }) => {
          const next = committed.get(partition) ?? -1;
          return sum + Math.max(0, Number(high) - (next < 0 ? Number(low) : next));
        }, 0);
    });
  }

  private async create(admin: Admin, topics: ITopicConfig[]): Promise<void> {
    if (topics.length === 0) return;
    const { replicationFactor } = this;
    await admin.createTopics({
      topics: topics.map((topic) => (replicationFactor === undefined ? topic : { ...topic, replicationFactor })),
      // Its own wait fails on a topic that the broker's metadata does not show yet; refresh() below is ours.
      waitForLeaders: false,
    });
    while (!topics.every(({ topic }) => this.counts.has(topic))) {
      await sleep(20);
      await this.refresh(admin);
    }
    for (const { topic, numPartitions } of topics) {
      this.logger.info(`created topic ${topic}`, { partitions: numPartitions });
    }
  }

  /** A topic counts as existing when all its partitions have leaders, so that it can be used at once. */
  private async refresh(admin: Admin): Promise<ReadonlyMap<string, number>> {
    const { topics } = await admin.fetchTopicMetadata();
    for (const { name, partitions } of topics) {
      if (partitions.every(({ leader }) => leader >= 0)) this.counts.set(name, partitions.length);
    }
    return this.counts;
  }

  private async withAdmin<T>(work: (admin: Admin) => Promise<T>): Promise<T> {
    const deadline = Date.now() + patienceMs;
    for (;;) {
      const { kafka, gate } = createClient(this.connection, this.logger);
      const admin = kafka.admin();
      const expiry = setTimeout(() => gate.cut(), deadline - Date.now());
      try {
        await admin.connect();
        return await work(admin);
      } catch (error) {
        if (error instanceof TerminalError) throw error;
        if (Date.now() + 500 > deadline) {
          throw new TransientError(
            `Kafka at ${this.connection.brokers.join(', ')} did not do it within ${patienceMs} ms ` +
              `(${reasonOf(error)}): check that it runs and that this client may administer topics`,
            { cause: error },
          );
        }
        this.logger.debug('an administrative request failed, trying again', { error: reasonOf(error) });
        await sleep(300);
      } finally {
        clearTimeout(expiry);
        gate.cut();
      }
    }
  }
}

function assertCounts(declared: readonly TopicDeclaration[], existing: ReadonlyMap<string, number>): void {
  for (const { name, partitions } of declared) {
    const count = existing.get(name) ?? partitions;
    if (count !== partitions) throw new TerminalError(partitionCountMismatch(name, count, partitions));
  }
}

/** createTopics fails with one error per topic. */
function reasonOf(error: unknown): string {
  const { errors = [] } = error as { readonly errors?: readonly Error[] };
  return [error, ...errors].map(errorText).join('; ');
}

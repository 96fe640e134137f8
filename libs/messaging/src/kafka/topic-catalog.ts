import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type Admin, type ITopicConfig } from 'kafkajs';
import { TerminalError } from '../errors.js';
import { errorText, type Logger } from '../logger.js';
import { missingTopic, shorterThanOutage, tooFewPartitions, tooShortRetention } from '../transport/topic-problems.js';
import type { TopicDeclaration } from '../transport/event-transport.js';
import type { SharedAdmin } from './shared-admin.js';

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

const configOf = ({ compacted, retentionMs }: TopicDeclaration) => [
  ...(compacted ? compactedConfig : []),
  ...(retentionMs === undefined ? [] : [{ name: 'retention.ms', value: String(retentionMs) }]),
];

const retentionOf = (entries: readonly { readonly configName: string; readonly configValue: string }[]): number =>
  Number(entries.find(({ configName }) => configName === 'retention.ms')?.configValue ?? -1);

const isForbidden = (error: unknown): boolean =>
  ['TOPIC_AUTHORIZATION_FAILED', 'CLUSTER_AUTHORIZATION_FAILED'].includes(
    (error as { readonly type?: string }).type ?? '',
  );

/** How often a topic that is missing is looked for, in milliseconds. */
const missingLookMs = 1_000;

export interface TopicCatalogOptions {
  /** Replicas of the topics created here; undefined = the broker's default. */
  readonly replicationFactor: number | undefined;
  /** How often the partitions of the known topics are counted again, in milliseconds. */
  readonly lookMs: number;
}

/** Which topics there are and with how many partitions. Their number can grow at any time: who publishes follows it. */
export class TopicCatalog {
  /** Of the topics that somebody has asked for, and that exist. */
  private readonly counts = new Map<string, number>();
  private readonly lookups = new Map<string, Promise<number>>();
  private readonly timer: NodeJS.Timeout;
  private looking = false;

  constructor(
    private readonly admin: SharedAdmin,
    private readonly options: TopicCatalogOptions,
    private readonly logger: Logger,
  ) {
    this.timer = setInterval(() => void this.lookAgain(), options.lookMs).unref();
  }

  close(): void {
    clearInterval(this.timer);
  }

  /**
   * Creates what is missing; a topic with more partitions is taken as it is.
   * @throws TerminalError when one exists with fewer; nothing is created then
   */
  async declare(topics: readonly TopicDeclaration[]): Promise<void> {
    if (topics.length === 0) return;
    await this.admin.use(async (admin) => {
      await this.look(
        admin,
        topics.map(({ name }) => name),
      );
      this.assertCounts(topics);
      const missing = topics.filter(({ name }) => !this.counts.has(name));
      await this.create(
        admin,
        missing.map((topic) => ({
          topic: topic.name,
          numPartitions: topic.partitions,
          configEntries: configOf(topic),
        })),
      );
      // Another instance may have created one at the same time, with a count of its own.
      this.assertCounts(topics);
      await this.assertRetention(admin, topics);
    });
  }

  async ensureDeadLetterTopic(name: string): Promise<void> {
    if (await this.exists(name)) return;
    await this.admin.use((admin) =>
      this.create(admin, [{ topic: name, numPartitions: 1, configEntries: deadLetterConfig }]),
    );
  }

  async exists(name: string): Promise<boolean> {
    if (!this.counts.has(name)) await this.admin.use((admin) => this.look(admin, [name]));
    return this.counts.has(name);
  }

  /** Resolves when the topic is there, or when `signal` aborts; never rejects. Each time that it is not, it tells so. */
  async untilThere(name: string, signal: AbortSignal, onMissing: () => void): Promise<void> {
    while (!signal.aborted) {
      try {
        if (await this.exists(name)) return;
        onMissing();
      } catch (error) {
        this.logger.debug(`it is not known whether topic ${name} exists; it is asked again`, {
          error: errorText(error),
        });
      }
      await sleep(missingLookMs, undefined, { signal }).catch(() => undefined);
    }
  }

  /**
   * Settled once the topic is known: publications that wait for it go on in the order in which they came.
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
    await this.exists(name);
    const count = this.counts.get(name);
    if (count === undefined) throw new TerminalError(missingTopic(name));
    return count;
  }

  private assertCounts(declared: readonly TopicDeclaration[]): void {
    for (const { name, partitions } of declared) {
      const count = this.counts.get(name) ?? partitions;
      if (count < partitions) throw new TerminalError(tooFewPartitions(name, count, partitions));
    }
  }

  private async assertRetention(admin: Admin, declared: readonly TopicDeclaration[]): Promise<void> {
    const wanted = declared.flatMap(({ name, retentionMs }) =>
      retentionMs === undefined ? [] : [{ name, retentionMs }],
    );
    if (wanted.length === 0) return;
    const type = kafkajs.ConfigResourceTypes.TOPIC;
    const resources = wanted.map(({ name }) => ({ type, name, configNames: ['retention.ms'] }));
    const described = await admin.describeConfigs({ includeSynonyms: false, resources }).catch((error: unknown) => {
      if (!isForbidden(error)) throw error;
      const advice = 'allow DescribeConfigs on them, or look yourself';
      this.logger.warn(`how long topics keep their records could not be checked: ${advice}`, {
        topics: wanted.map(({ name }) => name),
        error: errorText(error),
      });
      return { resources: [] };
    });
    for (const { resourceName, configEntries } of described.resources) {
      const existing = retentionOf(configEntries);
      const declaredMs = wanted.find(({ name }) => name === resourceName)?.retentionMs ?? 0;
      const tooShort = existing >= 0 && (declaredMs < 0 || existing < declaredMs);
      if (tooShort) throw new TerminalError(tooShortRetention(resourceName, existing, declaredMs));
    }
  }

  /** Why a reader that may be away for so long, in milliseconds, can lose events of the topic; undefined when it cannot, or nobody may know. */
  async outageProblem(name: string, outageMs: number): Promise<string | undefined> {
    const configNames = ['retention.ms', 'cleanup.policy'];
    const resources = [{ type: kafkajs.ConfigResourceTypes.TOPIC, name, configNames }];
    const described = await this.admin.use((admin) => admin.describeConfigs({ includeSynonyms: false, resources }));
    const entries = described.resources[0]?.configEntries ?? [];
    const kept = retentionOf(entries);
    // Of a compacted one the latest record of each key is kept.
    const deletes = entries.some((entry) => entry.configName === 'cleanup.policy' && /delete/.test(entry.configValue));
    return deletes && kept >= 0 && kept < outageMs ? shorterThanOutage(name, kept, outageMs) : undefined;
  }

  private async create(admin: Admin, topics: ITopicConfig[]): Promise<void> {
    if (topics.length === 0) return;
    const { replicationFactor } = this.options;
    await admin.createTopics({
      topics: topics.map((topic) => (replicationFactor === undefined ? topic : { ...topic, replicationFactor })),
      // Its own wait fails on a topic that the broker's metadata does not show yet; the look below is ours.
      waitForLeaders: false,
    });
    const names = topics.map(({ topic }) => topic);
    for (;;) {
      await this.look(admin, names);
      if (names.every((name) => this.counts.has(name))) break;
      await sleep(20);
    }
    for (const { topic, numPartitions } of topics) {
      this.logger.info(`created topic ${topic}`, { partitions: numPartitions });
    }
  }

  private async lookAgain(): Promise<void> {
    if (this.counts.size === 0 || this.looking) return;
    this.looking = true;
    try {
      await this.admin.use((admin) => this.look(admin, [...this.counts.keys()]));
    } catch (error) {
      this.logger.debug('the topics could not be looked at; it is tried again', { error: errorText(error) });
    } finally {
      this.looking = false;
    }
  }

  /** A topic counts as existing when all its partitions have leaders, so that it can be used at once. */
  private async look(admin: Admin, names: readonly string[]): Promise<void> {
    try {
      const { topics } = await admin.fetchTopicMetadata({ topics: [...names] });
      for (const { name, partitions } of topics) {
        if (partitions.every(({ leader }) => leader >= 0)) this.note(name, partitions.length);
      }
    } catch (error) {
      if ((error as { readonly type?: string }).type !== 'UNKNOWN_TOPIC_OR_PARTITION') throw error;
      // It does not say which one.
      if (names.length > 1) for (const name of names) await this.look(admin, [name]);
      else for (const name of names) this.forget(name);
    }
  }

  private note(name: string, count: number): void {
    const before = this.counts.get(name);
    if (before === count) return;
    this.counts.set(name, count);
    if (before === undefined) return;
    this.logger.info(`topic ${name} has another number of partitions`, { before, now: count });
    if (this.lookups.has(name)) this.lookups.set(name, Promise.resolve(count));
  }

  private forget(name: string): void {
    this.counts.delete(name);
    this.lookups.delete(name);
  }
}

import { TerminalError, type RefusedError } from '../errors.js';
import type { Message } from '../message.js';
import type { EventRecord, StoredRecord } from '../transport/event-record.js';
import { deadLetterTopic, type TopicDeclaration } from '../transport/event-transport.js';
import { missingTopic, tooFewPartitions } from '../transport/topic-problems.js';
import { MemoryConsumerGroup } from './memory-consumer-group.js';
import { SilentPlaces } from './silent-places.js';

interface Topic {
  /** By offset; a compacted topic has holes where a later record of the key took over. */
  readonly partitions: (StoredRecord | undefined)[][];
  /** Of a compacted topic, where the latest record of each key is. */
  readonly latest?: Map<string, bigint>;
  readonly groups: Map<string, MemoryConsumerGroup>;
}

/**
 * What Kafka's broker is to its clients: topics, consumer groups and their offsets, shared by any number of
 * `MemoryEventTransport`s. Keeps everything until the process ends.
 */
export class MemoryEventLog {
  private readonly topics = new Map<string, Topic>();
  private readonly listeners = new Set<() => void>();
  private readonly refusals = new Map<string, (message: Message) => RefusedError | undefined>();
  /** Topics that confirm nothing. For tests. */
  readonly silent = new SilentPlaces();
  private up = true;
  private readonly rebalanceDrainMs: number;

  /** `rebalanceDrainMs`: how long a rebalance waits for running handlers, in milliseconds. Default 5000. */
  constructor({ rebalanceDrainMs = 5_000 }: { readonly rebalanceDrainMs?: number } = {}) {
    this.rebalanceDrainMs = rebalanceDrainMs;
  }

  get running(): boolean {
    return this.up;
  }

  /** @throws TerminalError when a topic exists with fewer partitions; nothing is created then */
  declare(topics: readonly TopicDeclaration[]): void {
    for (const { name, partitions } of topics) {
      const existing = this.topics.get(name)?.partitions.length ?? partitions;
      if (existing < partitions) throw new TerminalError(tooFewPartitions(name, existing, partitions));
    }
    for (const { name, partitions, compacted } of topics) {
      if (this.topics.has(name)) continue;
      const latest = compacted ? { latest: new Map<string, bigint>() } : {};
      this.topics.set(name, { partitions: Array.from({ length: partitions }, () => []), groups: new Map(), ...latest });
    }
    this.tellListeners();
  }

  has(topic: string): boolean {
    return this.topics.has(topic);
  }

  /** As an administrator raises the partitions of a topic: what is there stays where it is, keys move. */
  raisePartitions(name: string, partitions: number): void {
    const topic = this.topic(name);
    while (topic.partitions.length < partitions) topic.partitions.push([]);
    if (this.up) for (const group of topic.groups.values()) void group.reassemble();
  }

  /** Calls `listener` when topics have been declared or the log is up again, until the function returned is called. */
  onChange(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => void this.listeners.delete(listener);
  }

  /** @throws TerminalError when the topic has not been declared */
  partitionsOf(topic: string): number {
    return this.topic(topic).partitions.length;
  }

  /** Appends bytes as they are, as a plain client could; call {@link wake} when the last of them is in. */
  append(topic: string, partition: number, record: EventRecord): bigint {
    const { partitions, latest } = this.topic(topic);
    const records = partitions[partition];
    if (!records) throw new TerminalError(`topic "${topic}" has no partition ${partition}`);
    const offset = BigInt(records.length);
    records.push({ ...record, partition, offset, timestamp: Date.now() });
    const key = `${partition} ${record.key?.toString('base64') ?? ''}`;
    const before = latest?.get(key);
    if (before !== undefined) records[Number(before)] = undefined;
    latest?.set(key, offset);
    return offset;
  }

  /** Tells the consumers of the topic that there may be new records. */
  wake(topic: string): void {
    for (const group of this.topic(topic).groups.values()) group.wake();
  }

  get topicNames(): string[] {
    return [...this.topics.keys()];
  }

  /** Every record of the topic, partition by partition: for tests and tools. */
  read(topic: string): StoredRecord[] {
    return this.topic(topic)
      .partitions.flat()
      .filter((record) => record !== undefined);
  }

  /** Committed offset per partition: the next record that the group would read. */
  committed(topic: string, group: string): number[] {
    return [...this.group(topic, group).committed];
  }

  /** A new group starts from the earliest record. */
  group(topic: string, group: string): MemoryConsumerGroup {
    const { groups, partitions } = this.topic(topic);
    const existing = groups.get(group) ?? new MemoryConsumerGroup(partitions, this.rebalanceDrainMs);
    groups.set(group, existing);
    this.declare([{ name: deadLetterTopic(topic, group), partitions: 1 }]);
    return existing;
  }

  /** Has a topic refuse the messages for which `why` gives an error; undefined ends that. For tests. */
  refuse(topic: string, why: ((message: Message) => RefusedError | undefined) | undefined): void {
    if (why) this.refusals.set(topic, why);
    else this.refusals.delete(topic);
  }

  refusalOf(topic: string, message: Message): RefusedError | undefined {
    return this.refusals.get(topic)?.(message);
  }

  /** The broker goes away as in a crash: nothing can be published, handlers in flight can no longer commit. */
  stop(): void {
    this.up = false;
    for (const { groups } of this.topics.values()) for (const group of groups.values()) group.disband();
  }

  /** The broker is back with all its records: members join again, publishers that waited go on. */
  start(): void {
    this.up = true;
    for (const { groups } of this.topics.values()) for (const group of groups.values()) void group.reassemble();
    this.tellListeners();
  }

  /** @returns false when the broker is not back after `ms` milliseconds */
  async untilRunning(ms: number): Promise<boolean> {
    if (this.up) return true;
    await new Promise<void>((resolve) => {
      const end = (): void => {
        clearTimeout(deadline);
        forget();
        resolve();
      };
      const deadline = setTimeout(end, ms);
      const forget = this.onChange(() => this.up && end());
    });
    return this.up;
  }

  private tellListeners(): void {
    for (const listener of [...this.listeners]) listener();
  }

  private topic(name: string): Topic {
    const topic = this.topics.get(name);
    if (!topic) throw new TerminalError(missingTopic(name));
    return topic;
  }
}

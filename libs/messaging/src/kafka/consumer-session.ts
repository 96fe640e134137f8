import type { Consumer as KafkaJsConsumer, EachBatchPayload } from 'kafkajs';
import { errorText, type Logger } from '../logger.js';
import type { GroupMember } from '../transport/group-member.js';
import { FetchedRecords } from './fetched-records.js';
import { holdBeforeJoin, type ConsumerCluster } from './hold-before-join.js';
import { consumerGroupId } from './consumer-group-id.js';
import { createClient, retryFor, type KafkaClient, type KafkaConnection } from './kafka-client.js';
import { OffsetCommitter, type Positions } from './offset-committer.js';
import { markOf, type Unreadable } from './read-fetch-response.js';

export interface ConsumerTiming {
  /** A member that the broker does not hear of for so long loses its partitions, in milliseconds. */
  readonly sessionTimeoutMs: number;
  /** How long a rebalance waits for running handlers: less than the session timeout, as there are no heartbeats then. */
  readonly rebalanceDrainMs: number;
  /** How often it is looked whether the topic has more partitions, in milliseconds. */
  readonly lookMs: number;
}

export interface SessionOptions extends ConsumerTiming {
  readonly connection: KafkaConnection;
  readonly topic: string;
  readonly group: string;
  readonly member: GroupMember;
  readonly logger: Logger;
  readonly onJoined: () => void;
  /** It has got something from the broker: records, or offsets that it may pass. */
  readonly onProgress: () => void;
}

const rebalanceTimeoutMs = 15_000;
/** How often a batch that could not be read is tried again, in milliseconds. */
const unreadableRetryMs = 30_000;

/**
 * One kafkajs consumer from its start to its end. `eachBatch` only takes over the records and returns, so that fetching
 * and heartbeats go on however long handlers take and no partition waits for another.
 */
export class ConsumerSession {
  /** Resolves with the reason when the consumer has crashed, stalled or been closed. */
  readonly ended: Promise<string>;
  private readonly committer: OffsetCommitter;
  private readonly client: KafkaClient;
  private readonly consumer: KafkaJsConsumer;
  /** The connection of the consumer itself. */
  private cluster: ConsumerCluster | undefined;
  private buffers = new Map<number, FetchedRecords>();
  /** Partitions that stand still because what comes next in them cannot be read. */
  private readonly unreadable = new Map<number, Unreadable>();
  private memberId: string | undefined;
  private commitOffsets: EachBatchPayload['commitOffsetsIfNecessary'] | undefined;
  private joined = false;
  private lastSign = performance.now();
  private readonly watchdog: NodeJS.Timeout;
  private retry: NodeJS.Timeout | undefined;
  private end!: (why: string) => void;
  private closing: Promise<void> | undefined;

  constructor(private readonly options: SessionOptions) {
    const { connection, topic, group, sessionTimeoutMs, lookMs, logger } = options;
    this.committer = new OffsetCommitter((positions) => this.commit(positions), logger);
    this.client = createClient(connection, logger);
    this.consumer = this.client.kafka.consumer({
      groupId: consumerGroupId(topic, group),
      sessionTimeout: sessionTimeoutMs,
      rebalanceTimeout: rebalanceTimeoutMs,
      // A rebalance is noticed with the answer to a heartbeat, so this is how long a new member waits for the others.
      heartbeatInterval: 500,
      minBytes: 1,
      maxWaitTimeInMs: 100,
      // Records that are decoded all at once live long enough to cost the garbage collector more than the requests saved.
      maxBytesPerPartition: 256 * 1024,
      // With more partitions than before kafkajs joins again.
      metadataMaxAge: lookMs,
      allowAutoTopicCreation: false,
      partitionAssigners: [
        holdBeforeJoin(
          () => this.rest(),
          (cluster) => (this.cluster = cluster),
        ),
      ],
      // One way to come back from every kind of crash, ours: kafkajs itself gives up on those that it calls non-retriable.
      retry: { ...retryFor(2), restartOnFailure: () => Promise.resolve(false) },
    });
    this.ended = new Promise((resolve) => (this.end = resolve));
    this.watchdog = setInterval(() => this.endIfStalled(), 1_000);
    this.listen();
  }

  get attached(): boolean {
    // After the session timeout without a sign of life the broker has given the partitions to others.
    const alive = performance.now() - this.lastSign < this.options.sessionTimeoutMs;
    return this.joined && alive && this.client.gate.connected;
  }

  get problem(): string | undefined {
    const problems = [...this.unreadable].map(([partition, batch]) => problemOf(this.options.topic, partition, batch));
    return problems.length === 0 ? undefined : problems.join('; ');
  }

  /** All records of the partition before `position` have settled. */
  settled(partition: number, position: bigint): void {
    this.committer.note(partition, this.buffers.get(partition)?.settle(position) ?? position);
  }

  /** Resolves when what has settled is committed, or after `ms` milliseconds. */
  flush(ms: number): Promise<void> {
    return this.committer.flush(ms);
  }

  /** Offsets of its partitions that the group has not committed, up to the first transaction that has not ended. */
  async lag(): Promise<number> {
    const { topic, group } = this.options;
    const { cluster } = this;
    const partitions = [...this.buffers.keys()].map((partition) => ({ partition }));
    if (!cluster || partitions.length === 0) return 0;
    const [ends] = await cluster.fetchTopicsOffset([{ topic, partitions, fromBeginning: false }]);
    const committed = cluster.committedOffsets({ groupId: consumerGroupId(topic, group) })[topic] ?? {};
    return (ends?.partitions ?? []).reduce((sum, { partition, offset }) => {
      // Not known until it has begun to fetch.
      const next = Number(committed[partition] ?? -1);
      return sum + (next < 0 ? 0 : Math.max(0, Number(offset) - next));
    }, 0);
  }

  /** Ends it for this reason, so that another is built. */
  giveUp(why: string): void {
    this.end(why);
  }

  async start(): Promise<void> {
    try {
      await this.consumer.connect();
      await this.consumer.subscribe({ topic: this.options.topic, fromBeginning: true });
      await this.consumer.run({
        autoCommit: false,
        eachBatchAutoResolve: false,
        eachBatch: (batch) => this.take(batch),
      });
    } catch (error) {
      this.end(errorText(error));
    }
  }

  /** Leaves the group if it can, gives everything in flight back, and frees all resources. Idempotent. */
  close(): Promise<void> {
    this.closing ??= this.leave();
    return this.closing;
  }

  private async leave(): Promise<void> {
    clearInterval(this.watchdog);
    clearTimeout(this.retry);
    this.joined = false;
    this.giveUpPartitions();
    const deadline = setTimeout(() => this.client.gate.cut(), 2_000);
    await this.consumer.disconnect().catch(() => undefined);
    clearTimeout(deadline);
    this.client.gate.cut();
    this.end('closed');
  }

  private giveUpPartitions(): void {
    this.committer.own([]);
    this.options.member.assign([], (partition) => this.bufferOf(partition));
    this.buffers = new Map();
  }

  private listen(): void {
    const { consumer } = this;
    const alive = (): void => void (this.lastSign = performance.now());
    consumer.on(consumer.events.FETCH, alive);
    consumer.on(consumer.events.HEARTBEAT, alive);
    consumer.on(consumer.events.CRASH, ({ payload }) => this.end(errorText(payload.error)));
    consumer.on(consumer.events.GROUP_JOIN, ({ payload: { memberId, memberAssignment } }) => {
      alive();
      this.begin(memberId, memberAssignment[this.options.topic] ?? []);
    });
  }

  /** Before every join: the partitions may go to others, so what has settled is committed and the rest left to them. */
  private async rest(): Promise<void> {
    if (!this.joined) return;
    this.joined = false;
    const since = performance.now();
    await this.options.member.hold(this.options.rebalanceDrainMs);
    await this.committer.flush(Math.max(500, this.options.rebalanceDrainMs - (performance.now() - since)));
  }

  private begin(memberId: string, partitions: number[]): void {
    const { member, topic, group, logger } = this.options;
    // With a new id the broker had thrown the member out meanwhile: others may have gone on from the committed offset.
    if (memberId !== this.memberId) this.giveUpPartitions();
    this.memberId = memberId;
    this.buffers = new Map(partitions.map((partition) => [partition, this.bufferOf(partition)]));
    for (const partition of [...this.unreadable.keys()]) {
      if (!this.buffers.has(partition)) this.unreadable.delete(partition);
    }
    for (const [partition, buffer] of this.buffers) this.letFetch(partition, !buffer.full);
    this.committer.own(partitions);
    member.assign(partitions, (partition) => this.bufferOf(partition));
    member.resume();
    this.joined = true;
    logger.info(`consuming ${topic} as ${group}`, { partitions });
    this.options.onJoined();
  }

  private bufferOf(partition: number): FetchedRecords {
    return this.buffers.get(partition) ?? new FetchedRecords(partition, () => this.letFetch(partition, true));
  }

  private async take({ batch, resolveOffset, commitOffsetsIfNecessary, isRunning, isStale }: EachBatchPayload) {
    const { partition, messages } = batch;
    const buffer = this.buffers.get(partition);
    const last = messages.at(-1);
    if (!isRunning() || isStale() || !buffer || !last) return;
    this.commitOffsets = commitOffsetsIfNecessary;
    const mark = markOf(last);
    const records = mark ? messages.slice(0, -1) : messages;
    buffer.add(records, BigInt(batch.highWatermark));
    if (mark?.unreadable) {
      this.stop(partition, mark.unreadable);
      const lastRead = records.at(-1);
      if (lastRead) resolveOffset(lastRead.offset);
    } else {
      resolveOffset(last.offset);
      const position = mark && buffer.pass(mark.offset + 1n);
      if (position !== undefined) this.committer.note(partition, position);
      this.unreadable.delete(partition);
      if (buffer.full) this.letFetch(partition, false);
    }
    if (records.length > 0 || !mark?.unreadable) this.options.onProgress();
    this.options.member.wake();
  }

  /** The other partitions go on. */
  private stop(partition: number, batch: Unreadable): void {
    const { topic, group, logger } = this.options;
    if (this.unreadable.get(partition)?.from !== batch.from) {
      logger.error(problemOf(topic, partition, batch), { topic, group, partition, offset: String(batch.from) });
    }
    this.unreadable.set(partition, batch);
    this.letFetch(partition, false);
    this.retry ??= setTimeout(() => {
      this.retry = undefined;
      for (const one of this.unreadable.keys()) this.letFetch(one, true);
    }, unreadableRetryMs).unref();
  }

  private letFetch(partition: number, on: boolean): void {
    const partitions = [{ topic: this.options.topic, partitions: [partition] }];
    try {
      if (on) this.consumer.resume(partitions);
      else this.consumer.pause(partitions);
    } catch (error) {
      // So it is while kafkajs takes down a crashed consumer; the next session starts with all partitions flowing.
      this.options.logger.debug('could not pause or resume a partition', { partition, error: errorText(error) });
    }
  }

  /**
   * Through the function of a batch and not `consumer.commitOffsets`, which tries again by itself: in the next generation
   * that would commit for partitions that are no longer ours.
   */
  private async commit(positions: Positions): Promise<void> {
    const partitions = [...positions].map(([partition, position]) => ({ partition, offset: String(position) }));
    await this.commitOffsets?.({ topics: [{ topic: this.options.topic, partitions }] });
  }

  private endIfStalled(): void {
    const patienceMs = rebalanceTimeoutMs + this.options.sessionTimeoutMs;
    if (performance.now() - this.lastSign > patienceMs) this.end(`no sign of life for ${patienceMs} ms`);
  }
}

const problemOf = (topic: string, partition: number, { from, to, codec, why }: Unreadable): string =>
  `${topic}[${partition}] stands still: the batch of the offsets ${from} to ${to} (compression: ${codec}) cannot be read ` +
  `(${why}). Have its events published again, then remove it with kafka-delete-records.sh up to offset ${to + 1n}`;

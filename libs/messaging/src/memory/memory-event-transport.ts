import { NotConfirmedError, UnroutableError } from '../errors.js';
import type { Flow } from '../flow/flow-gate.js';
import { encodeCloudEvent } from '../kafka/cloud-event.js';
import { silentLogger, type Logger } from '../logger.js';
import type { Message } from '../message.js';
import type { StandStill } from '../stand-stills.js';
import { deadLetterRecord } from '../transport/dead-letter.js';
import type { Consumer, DeliveryHandler } from '../transport/delivery.js';
import type { EventRecord } from '../transport/event-record.js';
import {
  deadLetterTopic,
  type EventTransport,
  type SubscribeOptions,
  type TopicDeclaration,
} from '../transport/event-transport.js';
import type { RecordPosition } from '../transport/record-position.js';
import { GroupMember } from '../transport/group-member.js';
import { publishEncoded } from '../transport/publish-encoded.js';
import { missingTopic } from '../transport/topic-problems.js';
import { partitionOfKey } from '../transport/partition-of-key.js';
import { absentTopic } from '../transport/topic-problems.js';
import type { MemoryConsumerGroup } from './memory-consumer-group.js';
import { MemoryEventLog } from './memory-event-log.js';

export interface MemoryEventTransportOptions {
  readonly logger?: Logger;
  /** How long `publish` waits for a stopped log. Default 10 000. */
  readonly publishTimeoutMs?: number;
}

/** One client of a `MemoryEventLog`: the in-process twin of the Kafka adapter, held to the same conformance suite. */
export class MemoryEventTransport implements EventTransport {
  private readonly consumers = new Set<MemoryConsumer>();
  private closed = false;

  constructor(
    private readonly log = new MemoryEventLog(),
    private readonly options: MemoryEventTransportOptions = {},
  ) {}

  get connected(): boolean {
    return this.log.running && !this.closed;
  }

  async declare(topics: readonly TopicDeclaration[]): Promise<void> {
    this.log.declare(topics);
  }

  async publish(topic: string, messages: readonly Message[]): Promise<RecordPosition[]> {
    const encode = (message: Message) => {
      const refusal = this.log.refusalOf(topic, message);
      if (refusal) throw refusal;
      return encodeCloudEvent(message);
    };
    return publishEncoded(messages, encode, async (records) => {
      await this.untilConnected();
      await this.untilConfirming(topic);
      if (!this.log.has(topic)) throw new UnroutableError(missingTopic(topic));
      const partitions = this.log.partitionsOf(topic);
      const positions = records.map((record) => {
        const partition = partitionOfKey(record.key, partitions);
        return { topic, partition, offset: String(this.log.append(topic, partition, record)) };
      });
      this.log.wake(topic);
      return positions;
    });
  }

  async subscribe(options: SubscribeOptions, handler: DeliveryHandler): Promise<Consumer> {
    const { topic, group, concurrency = 100, flow = {} } = options;
    await this.untilConnected();
    const member: GroupMember = new GroupMember({
      topic,
      group,
      concurrency,
      flow,
      handler,
      keepDeadLetter:
        options.deadLetters ??
        ((letter) => this.writeDeadLetter(deadLetterTopic(topic, group), deadLetterRecord(letter, group))),
      onSettled: (partition, position) => consumer.commit(partition, position),
      logger: this.options.logger ?? silentLogger,
    });
    const consumer: MemoryConsumer = new MemoryConsumer(this.log, topic, group, member, () => this.connected);
    this.consumers.add(consumer);
    await consumer.join();
    return consumer;
  }

  async close(): Promise<void> {
    await Promise.all([...this.consumers].map((consumer) => consumer.close()));
    this.closed = true;
  }

  /** Dies as a killed process would: nothing in flight is settled, its partitions go to the others. For tests. */
  crash(): void {
    this.closed = true;
    for (const consumer of this.consumers) consumer.crash();
  }

  private async writeDeadLetter(topic: string, record: EventRecord): Promise<void> {
    await this.untilConnected();
    this.log.append(topic, 0, record);
    this.log.wake(topic);
  }

  private async untilConfirming(topic: string): Promise<void> {
    const { publishTimeoutMs = 10_000 } = this.options;
    if (!this.log.silent.any || (await this.log.silent.untilHeard([topic], publishTimeoutMs))) return;
    throw new NotConfirmedError(
      `topic ${topic} did not confirm within ${publishTimeoutMs} ms: restore it, then publish again`,
    );
  }

  private async untilConnected(): Promise<void> {
    const { publishTimeoutMs = 10_000 } = this.options;
    const running = !this.closed && (await this.log.untilRunning(publishTimeoutMs));
    if (this.closed) throw new NotConfirmedError('the transport is closed: use it before close(), or use another');
    if (!running) {
      throw new NotConfirmedError(
        `the log did not run within ${publishTimeoutMs} ms, nothing was written: try again when it is back`,
      );
    }
  }
}

class MemoryConsumer implements Consumer {
  private closing: Promise<void> | undefined;
  private left = false;
  private group: MemoryConsumerGroup | undefined;
  private stopWaiting = (): void => undefined;

  constructor(
    private readonly log: MemoryEventLog,
    private readonly topic: string,
    private readonly groupName: string,
    private readonly member: GroupMember,
    private readonly isConnected: () => boolean,
  ) {}

  /** Resolves when it has its partitions; at once when the topic is not there yet, and it joins when that is. */
  async join(): Promise<void> {
    this.stopWaiting();
    if (this.log.has(this.topic)) {
      this.group = this.log.group(this.topic, this.groupName);
      return this.group.join(this.member);
    }
    this.stopWaiting = this.log.onChange(() => {
      if (this.log.has(this.topic)) void this.join();
    });
  }

  commit(partition: number, position: bigint): void {
    this.group?.commit(this.member, partition, position);
  }

  get attached(): boolean {
    return this.isConnected() && !this.left && (this.group?.isStable ?? false);
  }

  get problem(): string | undefined {
    return this.group ? undefined : absentTopic(this.topic);
  }

  standStills(ms: number): StandStill[] {
    return this.member.standStills(ms);
  }

  get inFlight(): number {
    return this.member.inFlight;
  }

  get flow(): Flow {
    return this.member.flow;
  }

  async backlog(): Promise<number> {
    return this.group?.waitingFor(this.member) ?? 0;
  }

  /** Nothing in this process goes silent: the partitions are dealt again. */
  rebuild(): void {
    void this.group?.reassemble();
  }

  close(drainMs = 10_000): Promise<void> {
    this.closing ??= this.drainAndLeave(drainMs);
    return this.closing;
  }

  crash(): void {
    this.left = true;
    this.stopWaiting();
    this.group?.leave(this.member);
  }

  private async drainAndLeave(drainMs: number): Promise<void> {
    await this.member.stop(drainMs);
    this.crash();
  }
}

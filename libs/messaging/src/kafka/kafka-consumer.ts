import { setTimeout as sleep } from 'node:timers/promises';
import type { Flow } from '../flow/flow-gate.js';
import { errorText, type Logger } from '../logger.js';
import type { StandStill } from '../stand-stills.js';
import type { Consumer } from '../transport/delivery.js';
import { absentTopic } from '../transport/topic-problems.js';
import { GroupMember, type GroupMemberOptions } from '../transport/group-member.js';
import { ConsumerSession, type ConsumerTiming } from './consumer-session.js';
import type { KafkaConnection } from './kafka-client.js';

export interface KafkaConsumerOptions extends ConsumerTiming, Omit<GroupMemberOptions, 'onSettled'> {
  readonly connection: KafkaConnection;
  readonly logger: Logger;
  /** Resolves when the topic exists, or when the signal aborts; tells when it has found that it does not. */
  readonly topicIsThere: (signal: AbortSignal, onMissing: () => void) => Promise<void>;
  /** Why events of the topic may be lost in an outage; asked now and then, and may fail. */
  readonly outageProblem: () => Promise<string | undefined>;
}

const longestDelayMs = 5_000;
/** How many looks at the partitions come to one at the retention. */
const retentionLooks = 30;
/** A session that lasted for so long has got on, though nothing may have come. */
const lastingMs = 60_000;

/** A member of a group that outlives its kafkajs consumers: when one ends, the next is built. */
export class KafkaConsumer implements Consumer {
  /** Resolves when the member has its partitions for the first time. */
  readonly firstJoin: Promise<void>;
  private readonly member: GroupMember;
  private session: ConsumerSession | undefined;
  private closing: Promise<void> | undefined;
  private readonly closed = new AbortController();
  private readonly running: Promise<void>;
  private delayMs = 0;
  private waitsForTopic = false;
  private keptTooShort: string | undefined;
  private readonly retentionTimer: NodeJS.Timeout;
  private markJoined!: () => void;

  constructor(private readonly options: KafkaConsumerOptions) {
    this.firstJoin = new Promise((resolve) => (this.markJoined = resolve));
    this.member = new GroupMember({
      ...options,
      onSettled: (partition, position) => this.session?.settled(partition, position),
    });
    this.retentionTimer = setInterval(() => void this.lookAtRetention(), retentionLooks * options.lookMs).unref();
    this.running = this.keepRunning();
  }

  get attached(): boolean {
    return this.session?.attached ?? false;
  }

  get problem(): string | undefined {
    if (this.waitsForTopic) return absentTopic(this.options.topic);
    return this.session?.problem ?? this.keptTooShort;
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
    return (await this.session?.lag()) ?? 0;
  }

  rebuild(why: string): void {
    this.session?.giveUp(why);
  }

  close(drainMs = 10_000): Promise<void> {
    this.closing ??= this.drainAndLeave(drainMs);
    return this.closing;
  }

  private async drainAndLeave(drainMs: number): Promise<void> {
    clearInterval(this.retentionTimer);
    await this.member.stop(drainMs);
    await this.session?.flush(2_000);
    this.closed.abort();
    await this.session?.close();
    await this.running;
  }

  private async keepRunning(): Promise<void> {
    const { topic, group, logger } = this.options;
    while (!this.closed.signal.aborted) {
      await this.untilTopicIsThere();
      if (this.closed.signal.aborted) return;
      void this.lookAtRetention();
      this.session = new ConsumerSession({
        ...this.options,
        member: this.member,
        onJoined: this.markJoined,
        onProgress: () => void (this.delayMs = 0),
      });
      const since = performance.now();
      void this.session.start();
      const why = await this.session.ended;
      await this.session.close();
      if (this.closed.signal.aborted) return;
      if (performance.now() - since > lastingMs) this.delayMs = 0;
      logger.warn(`the consumer of ${topic} as ${group} ended, building it anew`, { why, inMs: this.delayMs });
      await sleep(this.delayMs, undefined, { signal: this.closed.signal }).catch(() => undefined);
      this.delayMs = Math.min(longestDelayMs, 2 * this.delayMs + 100);
    }
  }

  /** Not at the start alone: the owner of a topic may keep its records for less at any time. */
  private async lookAtRetention(): Promise<void> {
    const { topic, group, outageProblem, logger } = this.options;
    if (this.waitsForTopic) return;
    try {
      const before = this.keptTooShort;
      this.keptTooShort = await outageProblem();
      if (this.keptTooShort && !before) logger.warn(this.keptTooShort, { group });
    } catch (error) {
      const what = `it is not known how long topic ${topic} keeps its records; it is asked again`;
      logger.debug(what, { group, error: errorText(error) });
    }
  }

  private async untilTopicIsThere(): Promise<void> {
    const { topic, group, topicIsThere, logger } = this.options;
    await topicIsThere(this.closed.signal, () => {
      if (!this.waitsForTopic) logger.warn(absentTopic(topic), { group });
      this.waitsForTopic = true;
    });
    if (this.waitsForTopic) logger.info(`topic ${topic} is there`);
    this.waitsForTopic = false;
  }
}

import { setTimeout as sleep } from 'node:timers/promises';
import type { Channel, ChannelModel, ConsumeMessage } from 'amqplib';
import { TerminalError } from '../errors.js';
import { FlowGate, type Flow, type FlowOptions } from '../flow/flow-gate.js';
import { failpoint } from '../failpoint.js';
import { LinkedQueue } from '../linked-queue.js';
import { errorText, type Logger } from '../logger.js';
import type { Consumer } from '../transport/delivery.js';
import { AckBatch } from './ack-batch.js';
import { AdaptivePrefetch } from './adaptive-prefetch.js';
import type { StandStill } from '../stand-stills.js';
import type { Work } from './delivery-outcome.js';
import { KeptOpen } from './kept-open.js';
import { UnsettledDeliveries } from './unsettled.js';

export interface RabbitMqConsumerOptions {
  readonly queue: string;
  readonly prefetch: number;
  readonly flow: FlowOptions;
  readonly work: Work;
  /** The queue has somewhere for what is rejected. */
  readonly mayReject: boolean;
  readonly logger: Logger;
  readonly connect: () => Promise<ChannelModel>;
  /** Declares and binds the queue again, if this transport has declared it. */
  readonly restoreQueue: () => Promise<void>;
  readonly messagesReady: () => Promise<number>;
  readonly onClosed: () => void;
}

/** One life of the consumer's channel. A delivery belongs to it: once it is over, the broker delivers again. */
interface Session {
  readonly channel: Channel;
  readonly acks: AckBatch;
  readonly prefetch: AdaptivePrefetch;
  over: boolean;
}

interface PendingDelivery {
  readonly session: Session;
  readonly raw: ConsumeMessage;
}

/** AMQP reply code. */
const notFound = 404;

export class RabbitMqConsumer implements Consumer {
  private readonly channel: KeptOpen<Channel>;
  private session: Session | undefined;
  private readonly gate: FlowGate;
  /**
   * What there is no room for: large messages, deliveries from before the limit fell, and those of a new session while
   * handlers of a lost one still run. At most the prefetch.
   */
  private readonly waiting = new LinkedQueue<PendingDelivery>();
  private readonly idle = new Set<() => void>();
  private readonly unsettled: UnsettledDeliveries;
  private closing: Promise<void> | undefined;

  constructor(private readonly options: RabbitMqConsumerOptions) {
    const { queue, prefetch, logger } = options;
    if (!Number.isInteger(prefetch) || prefetch < 1 || prefetch > 65_535) {
      throw new TerminalError(`The prefetch of queue "${queue}" is ${prefetch}; give an integer from 1 to 65535`);
    }
    this.unsettled = new UnsettledDeliveries(options);
    this.gate = new FlowGate({
      ...options.flow,
      ceiling: prefetch,
      // Delivered is in memory, begun or not.
      load: () => (this.session?.prefetch.bytes ?? 0) / this.gate.maxBytes,
      onLook: () => this.adapt(),
    });
    this.channel = new KeptOpen<Channel>({
      name: `the consumer of queue "${queue}"`,
      logger,
      open: async () => (await options.connect()).createChannel(),
      prepare: (channel) => this.attach(channel),
    });
  }

  get attached(): boolean {
    return this.channel.current !== undefined && this.closing === undefined;
  }

  get inFlight(): number {
    return this.flow.inFlight;
  }

  get flow(): Flow {
    return this.gate.flow;
  }

  backlog(): Promise<number> {
    return this.options.messagesReady();
  }

  standStills(ms: number): StandStill[] {
    return this.unsettled.standStills(ms);
  }

  rebuild(why: string): void {
    this.options.logger.warn('the consumer is rebuilt', { queue: this.options.queue, why });
    // Closing the channel is what a lost one comes to as well: the next is opened by the one way there is.
    this.session?.channel.close().catch(() => undefined);
  }

  /** @throws TerminalError when the queue does not exist */
  async start(): Promise<void> {
    const { queue } = this.options;
    await this.channel.start().catch((error: unknown) => {
      if (!(error instanceof Error) || !('code' in error) || error.code !== notFound) throw error;
      throw new TerminalError(`Queue "${queue}" cannot be consumed (${error.message}); declare it first`, {
        cause: error,
      });
    });
  }

  close(drainMs = 10_000): Promise<void> {
    this.closing ??= this.drain(drainMs);
    return this.closing;
  }

  private async drain(drainMs: number): Promise<void> {
    this.channel.stopReopening();
    const session = this.session;
    // The handshake matters: deliveries on their way must not arrive at a channel that is gone.
    if (session && !session.over) await session.prefetch.cancel().catch(() => undefined);
    this.gate.stop();
    this.waiting.clear();
    if (this.inFlight > 0) {
      const drained = new Promise<void>((resolve) => this.idle.add(resolve));
      await Promise.race([drained, sleep(drainMs, undefined, { ref: false })]);
    }
    session?.acks.flush();
    // Closing the channel gives everything unacknowledged back to the broker.
    await this.channel.stop();
    this.options.onClosed();
  }

  private async attach(channel: Channel): Promise<void> {
    const { queue, prefetch, restoreQueue } = this.options;
    const onMessage = (raw: ConsumeMessage | null): void => this.receive(session, raw);
    const prefetches = new AdaptivePrefetch({ channel, queue, most: prefetch, onMessage });
    const session: Session = { channel, acks: new AckBatch(channel), prefetch: prefetches, over: false };
    channel.once('close', () => (session.over = true));
    await restoreQueue();
    this.session = session;
    await session.prefetch.adaptTo(this.gate.limit);
  }

  private adapt(): void {
    const { session } = this;
    // A channel that fails closes, and the next one begins with the limit of then.
    if (session && !session.over && !this.closing) session.prefetch.adaptTo(this.gate.limit).catch(() => undefined);
    this.startNext();
  }

  private receive(session: Session, raw: ConsumeMessage | null): void {
    if (raw === null) {
      this.options.logger.warn('the broker cancelled the consumer, which is rebuilt', { queue: this.options.queue });
      session.channel.close().catch(() => undefined);
      return;
    }
    session.acks.delivered(raw.fields.deliveryTag);
    session.prefetch.delivered(raw);
    this.waiting.push({ session, raw });
    this.startNext();
  }

  private startNext(): void {
    for (let next = this.waiting.first; next; next = this.waiting.first) {
      if (!next.session.over && !this.gate.mayTake(next.raw.content.length)) return;
      this.waiting.shift();
      if (!next.session.over) void this.run(next);
    }
  }

  private async run({ session, raw }: PendingDelivery): Promise<void> {
    this.gate.begin(raw.content.length);
    try {
      await this.handle(session, raw);
    } catch (error) {
      // Unacknowledged it stays with the broker, which delivers it again when the channel closes.
      this.options.logger.error('defect: a delivery was not settled', { error: errorText(error) });
    }
    this.gate.end(raw.content.length);
    session.prefetch.settled(raw);
    this.startNext();
    if (this.inFlight > 0) return;
    for (const resolve of this.idle) resolve();
    this.idle.clear();
  }

  private async handle(session: Session, raw: ConsumeMessage): Promise<void> {
    const { queue, work } = this.options;
    const { deliveryTag, redelivered } = raw.fields;
    try {
      await work({ queue, raw, redelivered }, () => session.over);
      failpoint('command.before-ack');
      if (!session.over) session.acks.ack(deliveryTag);
      this.unsettled.settled(raw);
    } catch (error) {
      const next = await this.unsettled.failed(raw, error);
      if (!session.over) session.acks[next](deliveryTag);
    }
  }
}

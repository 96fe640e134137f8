import type { Channel, ConsumeMessage } from 'amqplib';

/** A consumer as the broker sees it: its prefetch is fixed when it begins. */
interface Slice {
  readonly tag: string;
  readonly prefetch: number;
}

/**
 * The prefetch of a channel, changed while it consumes. The broker fixes it per consumer (a quorum queue knows no other), so it
 * grows by one more consumer on the channel and shrinks by cancelling: what a cancelled one was given stays valid and is
 * settled in its time. All together never have more than `most` unsettled.
 */
export class AdaptivePrefetch {
  /** Bytes of what has been delivered and not settled. */
  bytes = 0;
  private readonly slices: Slice[] = [];
  private unsettled = 0;
  /** By consumer tag, those that were cancelled among them. */
  private readonly unsettledOf = new Map<string, number>();
  private adapting: Promise<void> | undefined;
  private ended = false;

  constructor(
    private readonly options: {
      readonly channel: Channel;
      readonly queue: string;
      readonly most: number;
      /** Null: the broker has cancelled the consumer. */
      readonly onMessage: (raw: ConsumeMessage | null) => void;
    },
  ) {}

  delivered({ content, fields }: ConsumeMessage): void {
    this.bytes += content.length;
    this.count(fields.consumerTag, 1);
  }

  settled({ content, fields }: ConsumeMessage): void {
    this.bytes -= content.length;
    this.count(fields.consumerTag, -1);
  }

  /** Goes towards the limit as far as what is unsettled lets it; ask again later for the rest. */
  adaptTo(limit: number): Promise<void> {
    this.adapting ??= this.adapt(limit).finally(() => (this.adapting = undefined));
    return this.adapting;
  }

  /** Resolves when no delivery is on its way any more. */
  async cancel(): Promise<void> {
    this.ended = true;
    await this.adapting?.catch(() => undefined);
    await Promise.all(this.slices.splice(0).map(({ tag }) => this.options.channel.cancel(tag)));
  }

  private get prefetch(): number {
    return this.slices.reduce((sum, { prefetch }) => sum + prefetch, 0);
  }

  private async adapt(limit: number): Promise<void> {
    while (this.prefetch > limit) {
      const { tag } = this.slices.pop() as Slice;
      await this.options.channel.cancel(tag);
    }
    const wanted = limit - this.prefetch;
    const possible = Math.min(wanted, this.options.most - this.prefetch - this.leftOver);
    // Not in crumbs: each would be a consumer of its own.
    if (this.ended || possible <= 0 || (possible < wanted && this.slices.length > 0)) return;
    const { channel, queue, onMessage } = this.options;
    await channel.prefetch(possible);
    const { consumerTag } = await channel.consume(queue, onMessage);
    this.slices.push({ tag: consumerTag, prefetch: possible });
  }

  /** Unsettled deliveries of consumers that were cancelled. */
  private get leftOver(): number {
    return this.slices.reduce((rest, { tag }) => rest - (this.unsettledOf.get(tag) ?? 0), this.unsettled);
  }

  private count(tag: string, change: 1 | -1): void {
    this.unsettled += change;
    const unsettled = (this.unsettledOf.get(tag) ?? 0) + change;
    if (unsettled > 0) this.unsettledOf.set(tag, unsettled);
    else this.unsettledOf.delete(tag);
  }
}

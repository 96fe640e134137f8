import { FlowGate, type Flow, type FlowOptions } from '../flow/flow-gate.js';
import type { StandStill } from '../stand-stills.js';
import { HandlerSlots } from './handler-slots.js';
import { PartitionDeliveries, type RecordSource } from './partition-deliveries.js';
import type { SettleContext } from './settle-record.js';

export interface GroupMemberOptions extends Omit<SettleContext, 'slots'> {
  /** Most handlers at once. */
  readonly concurrency: number;
  readonly flow?: FlowOptions;
  /** Called with the position to commit whenever the settled prefix of a partition grew. */
  readonly onSettled: (partition: number, position: bigint) => void;
}

/**
 * One member of a consumer group as both adapters see it: it takes records of the partitions it owns while handlers are
 * free, one partition after the other so that none starves. The adapter brings assignments and commits positions.
 */
export class GroupMember {
  private readonly gate: FlowGate;
  private readonly slots: HandlerSlots;
  private readonly partitions = new Map<number, PartitionDeliveries>();
  private pumpScheduled = false;
  private stopped = false;

  constructor(private readonly options: GroupMemberOptions) {
    this.gate = new FlowGate({
      ...options.flow,
      ceiling: options.concurrency,
      onLook: () => this.slots.serve(),
    });
    this.slots = new HandlerSlots(
      () => this.gate.limit,
      () => this.wake(),
    );
  }

  get flow(): Flow {
    let bytes = 0;
    for (const deliveries of this.partitions.values()) bytes += deliveries.bytes;
    return { ...this.gate.flow, inFlight: this.inFlight, bytes };
  }

  /** One for each partition whose offset does not move on. */
  standStills(ms: number): StandStill[] {
    return [...this.partitions.values()].flatMap((deliveries) => deliveries.standStill(ms) ?? []);
  }

  get inFlight(): number {
    let sum = 0;
    for (const deliveries of this.partitions.values()) sum += deliveries.inFlight;
    return sum;
  }

  /** Starts no handler until {@link resume} and waits for the running ones, at most `drainMs` milliseconds. */
  async hold(drainMs: number): Promise<void> {
    this.slots.hold();
    await this.slots.idle(drainMs);
  }

  resume(): void {
    if (!this.stopped) this.slots.resume();
  }

  /** As {@link hold}, for good. */
  async stop(drainMs: number): Promise<void> {
    this.stopped = true;
    this.gate.stop();
    await this.hold(drainMs);
  }

  /** Partitions that stay keep what is in flight, lost ones are abandoned, new ones start at their source. */
  assign(partitions: readonly number[], sourceOf: (partition: number) => RecordSource): void {
    for (const partition of [...this.partitions.keys()]) if (!partitions.includes(partition)) this.abandon(partition);
    for (const partition of partitions) {
      if (!this.partitions.has(partition)) this.partitions.set(partition, this.start(partition, sourceOf(partition)));
    }
    this.wake();
  }

  /** There may be records to take. Cheap, and never calls a handler before it returns. */
  wake(): void {
    if (this.pumpScheduled) return;
    this.pumpScheduled = true;
    // Not a microtask: handlers that never wait for I/O would keep timers and sockets from their turn.
    setImmediate(() => {
      this.pumpScheduled = false;
      this.pump();
    });
  }

  private start(partition: number, source: RecordSource): PartitionDeliveries {
    const records = Math.max(1000, 2 * this.options.concurrency);
    // A share for each, so that records of one that wait for their retry do not keep the others from being read.
    const limits = () => ({ records, bytes: this.gate.maxBytes / Math.max(1, this.partitions.size) });
    const context = { ...this.options, slots: this.slots };
    const onSettled = (position: bigint): void => this.options.onSettled(partition, position);
    return new PartitionDeliveries(partition, source, limits, context, onSettled);
  }

  private abandon(partition: number): void {
    this.partitions.get(partition)?.abandon();
    this.partitions.delete(partition);
  }

  /** Moving a partition to the end of the map is what makes the round: it is visited again after all the others. */
  private pump(): void {
    for (const [partition, deliveries] of this.partitions) {
      if (!this.slots.free) return;
      const record = deliveries.take();
      if (!record) continue;
      this.partitions.delete(partition);
      this.partitions.set(partition, deliveries);
      this.slots.tryTake();
      deliveries.handle(record);
    }
  }
}

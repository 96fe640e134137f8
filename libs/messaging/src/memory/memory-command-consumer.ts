import { setTimeout as sleep } from 'node:timers/promises';
import { FlowGate, type Flow, type FlowOptions } from '../flow/flow-gate.js';
import type { Logger } from '../logger.js';
import type { Work } from '../rabbitmq/delivery-outcome.js';
import { UnsettledDeliveries } from '../rabbitmq/unsettled.js';
import type { StandStill } from '../stand-stills.js';
import type { Consumer } from '../transport/delivery.js';
import type { MemoryCommandBroker } from './memory-command-broker.js';
import type { MemoryDelivery, MemoryQueue, MemoryQueueConsumer } from './memory-command-queue.js';

export interface MemoryConsumerOptions {
  readonly broker: MemoryCommandBroker;
  readonly queue: string;
  readonly prefetch: number;
  readonly flow: FlowOptions;
  readonly work: Work;
  /** The queue has somewhere for what is rejected. */
  readonly mayReject: boolean;
  readonly logger: Logger;
  readonly onClosed: () => void;
}

export class MemoryCommandConsumer implements Consumer, MemoryQueueConsumer {
  private readonly queue: MemoryQueue;
  private readonly unsettled = new Set<MemoryDelivery>();
  private readonly gate: FlowGate;
  private readonly idle = new Set<() => void>();
  private readonly unsettledOnes: UnsettledDeliveries;
  private closing: Promise<void> | undefined;

  constructor(private readonly options: MemoryConsumerOptions) {
    this.queue = options.broker.queue(options.queue);
    this.unsettledOnes = new UnsettledDeliveries(options);
    this.gate = new FlowGate({
      ...options.flow,
      ceiling: options.prefetch,
      onLook: () => this.queue.schedule(),
    });
    this.queue.attach(this);
  }

  get attached(): boolean {
    return this.options.broker.running && this.closing === undefined;
  }

  get inFlight(): number {
    return this.flow.inFlight;
  }

  get flow(): Flow {
    return this.gate.flow;
  }

  mayTake({ message }: MemoryDelivery): boolean {
    return this.gate.mayTake(message.content.length);
  }

  async backlog(): Promise<number> {
    return this.queue.size;
  }

  standStills(ms: number): StandStill[] {
    return this.unsettledOnes.standStills(ms);
  }

  /** Nothing in this process goes silent: it hands back what it has, and is given it again. */
  rebuild(): void {
    this.queue.takeBack(this.giveBack());
  }

  take(delivery: MemoryDelivery): void {
    this.unsettled.add(delivery);
    this.gate.begin(delivery.message.content.length);
    void this.handle(delivery);
  }

  giveBack(): MemoryDelivery[] {
    const deliveries = [...this.unsettled];
    this.unsettled.clear();
    return deliveries;
  }

  close(drainMs = 10_000): Promise<void> {
    this.closing ??= this.drain(drainMs);
    return this.closing;
  }

  private async drain(drainMs: number): Promise<void> {
    this.queue.detach(this);
    this.gate.stop();
    if (this.inFlight > 0) {
      const drained = new Promise<void>((resolve) => this.idle.add(resolve));
      await Promise.race([drained, sleep(drainMs, undefined, { ref: false })]);
    }
    this.queue.takeBack(this.giveBack());
    this.options.onClosed();
  }

  private async handle(delivery: MemoryDelivery): Promise<void> {
    const { queue, work, broker } = this.options;
    const { message: raw, redelivered } = delivery;
    try {
      // What was given back meanwhile is delivered again; its first handler has no say any more.
      await work({ queue, raw, redelivered }, () => !this.unsettled.has(delivery));
      this.unsettled.delete(delivery);
      this.unsettledOnes.settled(raw);
    } catch (error) {
      const next = await this.unsettledOnes.failed(raw, error);
      if (this.unsettled.delete(delivery)) {
        if (next === 'requeue') this.queue.takeBack([delivery]);
        else broker.reject(queue, raw);
      }
    }
    this.gate.end(raw.content.length);
    this.queue.schedule();
    if (this.inFlight > 0) return;
    for (const resolve of this.idle) resolve();
    this.idle.clear();
  }
}

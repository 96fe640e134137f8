import {
  MemoryCommandTransport,
  MemoryEventTransport,
  NotConfirmedError,
  retryBlameless,
  type CommandTransport,
  type Consumer,
  type ConsumeOptions,
  type DeadLetterHandler,
  type DeliveryHandler,
  type EventTransport,
  type Message,
  type RecordPosition,
  type SendOptions,
  type SubscribeOptions,
  type TopicDeclaration,
  type Topology,
} from '@starter/messaging';
import { setTimeout as sleep } from 'node:timers/promises';
import { Overtaking } from './overtaking.js';
import type { World } from './world.js';

/** The process that a transport belongs to: some faults of its messages end it. */
export interface MortalProcess {
  readonly world: World;
  /** It has crashed. */
  readonly over: boolean;
  crash(): void;
  /** Another one is to take its place. */
  retire(): void;
}

/** A command transport of one process: what passes it meets the faults of the run. */
export class FaultyCommandTransport implements CommandTransport {
  private readonly inner: MemoryCommandTransport;
  private readonly consumers = new Set<Consumer>();

  constructor(private readonly process: MortalProcess) {
    this.inner = new MemoryCommandTransport(process.world.broker);
  }

  get connected(): boolean {
    return this.inner.connected && !this.process.over;
  }

  /** Deliveries that the process has and has not settled. */
  get inFlight(): number {
    return [...this.consumers].reduce((sum, { inFlight }) => sum + inFlight, 0);
  }

  declare(topology: Topology): Promise<void> {
    return this.inner.declare(topology);
  }

  send(message: Message, options: SendOptions = {}): Promise<void> {
    const copies = new MemoryCommandTransport(this.process.world.broker);
    return publish(this.process, 'commands', [message], {
      publish: () => this.inner.send(message, options),
      copy: () => copies.send(message, options),
    });
  }

  async consume(queue: string, handler: DeliveryHandler, options?: ConsumeOptions): Promise<Consumer> {
    const consumer = await this.inner.consume(queue, deliver(this.process, queue, handler), options);
    this.consumers.add(consumer);
    return consumer;
  }

  async consumeDeadLetters(queue: string, handler: DeadLetterHandler): Promise<Consumer> {
    const consumer = await this.inner.consumeDeadLetters(queue, handler);
    this.consumers.add(consumer);
    return consumer;
  }

  /** What the process has in hand goes back to its queue. */
  crash(): void {
    for (const consumer of this.consumers) void consumer.close(0);
    void this.inner.close();
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}

/** The same for events. */
export class FaultyEventTransport implements EventTransport {
  private readonly inner: MemoryEventTransport;
  private readonly consumers = new Set<Consumer>();

  constructor(private readonly process: MortalProcess) {
    this.inner = new MemoryEventTransport(process.world.log);
  }

  get connected(): boolean {
    return this.inner.connected && !this.process.over;
  }

  get inFlight(): number {
    return [...this.consumers].reduce((sum, { inFlight }) => sum + inFlight, 0);
  }

  declare(topics: readonly TopicDeclaration[]): Promise<void> {
    return this.inner.declare(topics);
  }

  publish(topic: string, messages: readonly Message[]): Promise<RecordPosition[]> {
    const copies = new MemoryEventTransport(this.process.world.log);
    return publish(this.process, topic, messages, {
      publish: () => this.inner.publish(topic, messages),
      copy: () => copies.publish(topic, messages),
    });
  }

  async subscribe(options: SubscribeOptions, handler: DeliveryHandler): Promise<Consumer> {
    const consumer = await this.inner.subscribe(options, deliver(this.process, options.group, handler));
    this.consumers.add(consumer);
    return consumer;
  }

  crash(): void {
    this.inner.crash();
  }

  close(): Promise<void> {
    return this.inner.close();
  }
}

interface Publication<T> {
  readonly publish: () => Promise<T>;
  /** The same by a connection that outlives the process. */
  readonly copy: () => Promise<unknown>;
}

async function publish<T>(
  process: MortalProcess,
  where: string,
  messages: readonly Message[],
  { publish, copy }: Publication<T>,
): Promise<T> {
  const { faults, leaseMs } = process.world;
  const fault = faults.at('publish', where, messages);
  if (fault === 'crashBefore') process.crash();
  if (fault === 'slow') await sleep(20);
  if (fault === 'frozen') await sleep(1.5 * leaseMs);
  if (fault === 'refused' || process.over) throw new NotConfirmedError('the simulation refused it: send it again');
  const confirmation = await publish();
  if (fault === 'copied') faults.meanwhile(sleep(20).then(copy));
  if (fault === 'crashAfter') process.crash();
  if (fault === 'unconfirmed' || process.over) throw new NotConfirmedError('the simulation lost it: send it again');
  return confirmation;
}

/** What a dead process would have said. */
const silence = new Promise<never>(() => undefined);

function deliver(process: MortalProcess, where: string, handler: DeliveryHandler): DeliveryHandler {
  const { faults } = process.world;
  const overtaking = new Overtaking();
  return async (delivery) => {
    const fault = faults.at('deliver', where, [delivery.message]);
    overtaking.pass();
    if (fault === 'retiring') process.retire();
    if (fault === 'overtaken') await overtaking.behind(5, 20);
    if (fault === 'crashBefore') process.crash();
    if (process.over) return silence;
    if (fault === 'dropped') return retryBlameless(0, 'the simulation dropped the delivery');
    if (fault === 'doubled') faults.meanwhile(handler(delivery));
    const outcome = await handler(delivery);
    if (fault === 'crashAfter') process.crash();
    if (process.over) return silence;
    if (fault === 'unacknowledged') return retryBlameless(0, 'the simulation lost the acknowledgement');
    if (outcome.kind !== 'retry') return outcome;
    // Not by the broker's delay: what waits there is not seen, and the run would not know when it is at rest.
    await sleep(5);
    return { ...outcome, afterMs: 0 };
  };
}

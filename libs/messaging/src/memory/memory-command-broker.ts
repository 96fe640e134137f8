import { TerminalError, UnroutableError, type RefusedError } from '../errors.js';
import { longTimeout } from '../long-timer.js';
import type { AmqpMessage } from '../rabbitmq/amqp-envelope.js';
import { deadLetterQueue, longestDelayMs } from '../rabbitmq/queue-names.js';
import type { Binding, ExchangeType, Topology } from '../transport/command-transport.js';
import { MemoryQueue } from './memory-command-queue.js';
import { SilentPlaces } from './silent-places.js';

interface Exchange {
  readonly type: ExchangeType;
  readonly bindings: Binding[];
}

/**
 * The state of an in-process command broker: exchanges, bindings and queues. It outlives the transports (connections)
 * that share it, so whatever they leave unacknowledged is delivered again. It holds messages in the form in which
 * RabbitMQ does, so that both transports read and write them with the same code.
 */
export class MemoryCommandBroker {
  private readonly exchanges = new Map<string, Exchange>();
  private readonly queues = new Map<string, MemoryQueue>();
  private readonly waitingForStart = new Set<() => void>();
  private readonly refusals = new Map<string, (message: AmqpMessage) => RefusedError | undefined>();
  /** Queues that confirm nothing. For tests. */
  readonly silent = new SilentPlaces();
  private isRunning = true;

  get running(): boolean {
    return this.isRunning;
  }

  /** @throws TerminalError when an exchange exists with another type, or a binding names something unknown */
  declare({ exchanges = [], queues = [], bindings = [] }: Topology): void {
    for (const { name, type } of exchanges) this.declareExchange(name, type);
    for (const { name } of queues) {
      this.declareQueue(deadLetterQueue(name));
      this.declareQueue(name);
    }
    for (const binding of bindings) this.bind(binding);
  }

  /**
   * Routes as RabbitMQ does; any client may call it, with any bytes. Exchange '' stands for the queue that the key names.
   * @throws RefusedError when no queue is bound, or one refuses it; then no queue has it
   */
  publish(exchange: string, routingKey: string, message: AmqpMessage): void {
    const queues = this.queuesOf(exchange, routingKey);
    for (const name of queues) {
      const refusal = this.refusals.get(name)?.(message);
      if (refusal) throw refusal;
    }
    let routed = false;
    for (const name of queues) {
      const queue = this.queues.get(name);
      queue?.push(message);
      routed ||= queue !== undefined;
    }
    if (!routed) {
      throw new UnroutableError(
        `No queue is bound to exchange "${exchange}" with key "${routingKey}"; deploy its consumer or correct the key`,
      );
    }
  }

  /** Where a message would go; names of queues that may not exist. */
  queuesOf(exchange: string, routingKey: string): string[] {
    return exchange === '' ? [routingKey] : [...this.route(exchange, routingKey)];
  }

  /** Has a queue refuse the messages for which `why` gives an error; undefined ends that. For tests. */
  refuse(queue: string, why: ((message: AmqpMessage) => RefusedError | undefined) | undefined): void {
    if (why) this.refusals.set(queue, why);
    else this.refusals.delete(queue);
  }

  /** @throws TerminalError when the queue was not declared */
  publishLater(queue: string, message: AmqpMessage, delayMs: number): void {
    const target = this.queue(queue);
    // Node's timers count whole milliseconds and may be early by a part of one.
    longTimeout(() => target.push(message), Math.min(Math.ceil(delayMs), longestDelayMs) + 1);
  }

  /** As RabbitMQ does with what a consumer rejects: it goes to the dead-letter queue, with a record of its death. */
  reject(queue: string, { properties, content }: AmqpMessage): void {
    const death = {
      queue,
      reason: 'rejected',
      count: 1,
      time: { '!': 'timestamp', value: Math.floor(Date.now() / 1000) },
    };
    const headers = { ...properties.headers, 'x-death': [death] };
    this.queue(deadLetterQueue(queue)).push({ content, properties: { ...properties, headers } });
  }

  /** @throws TerminalError when it was not declared */
  queue(name: string): MemoryQueue {
    const queue = this.queues.get(name);
    if (!queue) throw new TerminalError(`Queue "${name}" does not exist; declare it first`);
    return queue;
  }

  get queueNames(): string[] {
    return [...this.queues.keys()];
  }

  /** What lies ready in a queue, oldest first, without taking it: for operations and for tests. */
  messages(queue: string): AmqpMessage[] {
    return this.queue(queue).messages();
  }

  deleteQueue(name: string): void {
    for (const queue of [name, deadLetterQueue(name)]) this.queues.delete(queue);
    for (const { bindings } of this.exchanges.values()) {
      bindings.splice(0, Infinity, ...bindings.filter(({ queue }) => queue !== name));
    }
  }

  /** As a crash: every connection drops and what was unacknowledged goes back to its queue. */
  stop(): void {
    this.isRunning = false;
    for (const queue of this.queues.values()) queue.stop();
  }

  /** Consumers attach again by themselves. */
  start(): void {
    this.isRunning = true;
    for (const queue of this.queues.values()) queue.start();
    for (const resume of this.waitingForStart) resume();
    this.waitingForStart.clear();
  }

  /** Resolves to whether it runs, after `patienceMs` at the latest. */
  whenRunning(patienceMs: number): Promise<boolean> {
    if (this.isRunning) return Promise.resolve(true);
    return new Promise((resolve) => {
      const settle = (): void => {
        clearTimeout(timer);
        this.waitingForStart.delete(settle);
        resolve(this.isRunning);
      };
      const timer = setTimeout(settle, patienceMs);
      this.waitingForStart.add(settle);
    });
  }

  private declareExchange(name: string, type: ExchangeType): void {
    const existing = this.exchanges.get(name);
    if (existing && existing.type !== type) {
      throw new TerminalError(
        `The exchange "${name}" exists with another shape (type ${existing.type}, not ${type}). Choose another name, or declare it with its type`,
      );
    }
    if (!existing) this.exchanges.set(name, { type, bindings: [] });
  }

  private declareQueue(name: string): void {
    if (!this.queues.has(name)) this.queues.set(name, new MemoryQueue(this.isRunning));
  }

  private bind(binding: Binding): void {
    const exchange = this.exchanges.get(binding.exchange);
    if (!exchange || !this.queues.has(binding.queue)) {
      throw new TerminalError(
        `Queue "${binding.queue}" cannot be bound to exchange "${binding.exchange}": one of them does not exist. Declare both first`,
      );
    }
    const { routingKey, queue } = binding;
    const known = exchange.bindings.some((other) => other.queue === queue && other.routingKey === routingKey);
    if (!known) exchange.bindings.push(binding);
  }

  /** Each queue once, however many of its bindings match. */
  private route(exchange: string, routingKey: string): Iterable<string> {
    const { type, bindings } = this.exchanges.get(exchange) ?? { type: 'direct', bindings: [] };
    return new Set(bindings.filter((binding) => matches(type, binding.routingKey, routingKey)).map((b) => b.queue));
  }
}

function matches(type: ExchangeType, pattern: string, routingKey: string): boolean {
  if (type === 'fanout') return true;
  if (type === 'direct') return pattern === routingKey;
  return matchesTopic(pattern.split('.'), routingKey.split('.'));
}

function matchesTopic([word, ...pattern]: string[], words: string[]): boolean {
  if (word === undefined) return words.length === 0;
  if (word === '#') return words.some((_, n) => matchesTopic(pattern, words.slice(n))) || matchesTopic(pattern, []);
  return words.length > 0 && (word === '*' || word === words[0]) && matchesTopic(pattern, words.slice(1));
}

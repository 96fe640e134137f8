import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type Producer } from 'kafkajs';
import { LinkedQueue } from '../linked-queue.js';
import { errorText, type Logger } from '../logger.js';
import { createClient, retryFor, type KafkaClient, type KafkaConnection } from './kafka-client.js';
import {
  fitsOneRequest,
  notConfirmed,
  toKafkaMessage,
  type Entry,
  type Publication,
  type Slice,
} from './publication.js';
import { withinTime } from './within-time.js';
import { refusalOf } from './refused-records.js';

const longestReconnectDelayMs = 2_000;

interface ProducerClient extends KafkaClient {
  readonly producer: Producer;
  /** It has shaken hands and has an identity. An open socket alone may belong to a broker that answers nothing. */
  ready: boolean;
}

/**
 * Sends to one topic with acks from all replicas, idempotent, and with one request in flight: concurrent requests of an
 * idempotent kafkajs producer end in OUT_OF_ORDER_SEQUENCE (#598). What is published meanwhile travels together in the
 * next one.
 */
export class TopicProducer {
  private readonly queue = new LinkedQueue<Slice>();
  private client: ProducerClient | undefined;
  private connecting: Promise<void> | undefined;
  private sending: Promise<void> | undefined;
  private ended = false;

  constructor(
    private readonly connection: KafkaConnection,
    /** How long a request may take, in milliseconds, before its connection is given up. */
    private readonly timeoutMs: number,
    private readonly logger: Logger,
  ) {}

  get connected(): boolean {
    return this.client !== undefined && this.client.ready && this.client.gate.connected;
  }

  send(publication: Publication): void {
    for (const slice of publication.slices()) this.queue.push(slice);
    this.sending ??= this.sendUntilEmpty().finally(() => (this.sending = undefined));
  }

  /** Tries until there is a connection or the producer has ended. */
  connect(): Promise<void> {
    this.connecting ??= this.connectUntilItWorks().finally(() => (this.connecting = undefined));
    return this.connecting;
  }

  /** Waits for what has been published before, each no longer than its time. */
  async close(): Promise<void> {
    await this.sending;
    this.ended = true;
    this.discard();
  }

  private async connectUntilItWorks(): Promise<void> {
    for (let delay = 100; !this.ended && !this.connected; delay = Math.min(2 * delay, longestReconnectDelayMs)) {
      if (!this.client?.ready) this.discard();
      const client = (this.client ??= this.newClient());
      try {
        await withinTime(client.producer.connect(), this.timeoutMs);
        client.ready = true;
        // kafkajs may not have noticed yet that its connection is gone.
        if (this.connected) return;
      } catch (error) {
        this.logger.warn('no connection for publishing yet, trying again', { error: errorText(error) });
        if (client === this.client) this.discard();
      }
      await sleep(delay);
    }
  }

  private newClient(): ProducerClient {
    // Shorter than a request may take, so that what the broker says is known when the time is up.
    const retrySeconds = Math.floor(this.timeoutMs / 2_000);
    const onDisconnected = (): void => {
      if (!this.ended) void this.connect();
    };
    const client = createClient(this.connection, this.logger, { retrySeconds, onDisconnected });
    const producer = client.kafka.producer({
      idempotent: true,
      allowAutoTopicCreation: false,
      createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
      retry: retryFor(retrySeconds),
    });
    return { ...client, producer, ready: false };
  }

  private discard(): void {
    this.client?.gate.cut();
    this.client = undefined;
  }

  private async sendUntilEmpty(): Promise<void> {
    // One turn later, so that publications of the same moment share the first request.
    await Promise.resolve();
    while (this.queue.size > 0) {
      const request = this.nextRequest();
      if (request.length > 0) await this.deliver(request);
    }
  }

  /** As many of the next slices as fit, without those that nobody waits for any more. */
  private nextRequest(): Entry[] {
    const request: Entry[] = [];
    let bytes = 0;
    for (let next = this.queue.first; next; next = this.queue.first) {
      if (!next.publication.settled) {
        bytes += next.bytes;
        if (request.length > 0 && !fitsOneRequest(request.length + next.entries.length, bytes)) break;
        request.push(...next.entries);
      }
      this.queue.shift();
    }
    return request;
  }

  /** When the broker refuses a record, the request is divided until it is known which; the others are written. */
  private async deliver(request: readonly Entry[]): Promise<void> {
    const entries = request.filter(({ publication }) => !publication.settled);
    const [first] = entries;
    if (!first || !(await this.connectedFor(entries))) return;
    const { topic } = first.publication;
    try {
      await this.produce(topic, entries);
    } catch (error) {
      const refusal = refusalOf(error, topic);
      if (refusal?.blames === 'message' && entries.length > 1) return this.deliverInParts(topic, entries);
      const result = refusal ?? notConfirmed(topic, errorText(error));
      for (const { publication, index } of entries) publication.settle(index, result);
    }
  }

  private async deliverInParts(topic: string, entries: readonly Entry[]): Promise<void> {
    const refusedKeys = new Set<string>();
    const keyOf = ({ record }: Entry): string => record.key?.toString('latin1') ?? '';
    for (const part of partsOf(entries)) {
      const behind = part.filter((entry) => refusedKeys.has(keyOf(entry)));
      for (const { publication, index } of behind) {
        publication.settle(index, notConfirmed(topic, 'one before it of its key was refused'));
      }
      await this.deliver(part.filter((entry) => !refusedKeys.has(keyOf(entry))));
      for (const entry of part) if (!entry.publication.confirmed(entry.index)) refusedKeys.add(keyOf(entry));
    }
  }

  /** Waits for a connection as long as anybody waits for one of the records. */
  private async connectedFor(entries: readonly Entry[]): Promise<boolean> {
    while (!this.connected) {
      if (this.ended || entries.every(({ publication }) => publication.settled)) return false;
      await Promise.race([this.connect(), sleep(100)]);
    }
    return true;
  }

  private async produce(topic: string, entries: readonly Entry[]): Promise<void> {
    const { client } = this;
    for (const publication of new Set(entries.map((entry) => entry.publication))) publication.sending();
    try {
      if (!client) throw new Error('the connection is gone');
      const messages = entries.map(({ record }) => toKafkaMessage(record));
      const appended = await withinTime(
        client.producer.send({ topic, acks: -1, timeout: this.timeoutMs, messages }),
        this.timeoutMs,
      );
      const next = new Map(appended.map(({ partition, baseOffset }) => [partition, BigInt(baseOffset ?? -1)]));
      for (const { publication, index, record } of entries) {
        publication.settle(index, { topic, partition: record.partition, offset: take(next, record.partition) });
      }
    } catch (error) {
      // Its next sequence number is in doubt now. Used for other records, the broker would take them for duplicates and
      // drop them; a new producer has a new identity.
      if (client === this.client) {
        this.discard();
        // Not only when there is more to publish: whoever waits until we are connected would wait for ever.
        if (!this.ended) void this.connect();
      }
      throw error;
    }
  }
}

/** By partition, because the broker takes or refuses the records of a partition together; then in halves. */
function partsOf(entries: readonly Entry[]): Entry[][] {
  const partitions = new Map<number, Entry[]>();
  for (const entry of entries) {
    const { partition } = entry.record;
    const part = partitions.get(partition);
    if (part) part.push(entry);
    else partitions.set(partition, [entry]);
  }
  if (partitions.size > 1) return [...partitions.values()];
  const middle = Math.ceil(entries.length / 2);
  return [entries.slice(0, middle), entries.slice(middle)];
}

/** A partition's records of one request lie one behind the other. */
function take(next: Map<number, bigint>, partition: number): string {
  const offset = next.get(partition);
  if (offset === undefined || offset < 0n) throw new Error(`the broker did not answer for partition ${partition}`);
  next.set(partition, offset + 1n);
  return String(offset);
}

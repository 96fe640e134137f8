import { setTimeout as sleep } from 'node:timers/promises';
import kafkajs, { type Producer } from 'kafkajs';
import { NotConfirmedError } from '../errors.js';
import { LinkedQueue } from '../linked-queue.js';
import { errorText, type Logger } from '../logger.js';
import type { RecordPosition } from '../transport/event-transport.js';
import { createClient, retryFor, type KafkaClient, type KafkaConnection } from './kafka-client.js';
import { fitsOneRequest, Publication, toKafkaMessage, type PartitionedRecord, type Slice } from './publication.js';

const longestReconnectDelayMs = 2_000;

/**
 * Sends with acks from all replicas, idempotent, and with one request in flight: concurrent requests of an idempotent
 * kafkajs producer end in OUT_OF_ORDER_SEQUENCE (#598). What is published meanwhile travels together in the next one.
 */
export class KafkaProducer {
  private readonly queue = new LinkedQueue<Slice>();
  private client: (KafkaClient & { readonly producer: Producer }) | undefined;
  private connecting: Promise<void> | undefined;
  private sending: Promise<void> | undefined;
  private requestInFlight = false;
  private closing = false;
  private ended = false;

  constructor(
    private readonly connection: KafkaConnection,
    /** How long a publication may take, in milliseconds, before it is rejected. */
    private readonly timeoutMs: number,
    private readonly logger: Logger,
  ) {}

  get connected(): boolean {
    return !this.closing && this.hasConnection;
  }

  /** @throws NotConfirmedError when the broker did not confirm every record in time */
  async send(topic: string, records: readonly PartitionedRecord[]): Promise<RecordPosition[]> {
    if (this.closing) throw new NotConfirmedError('the transport is closed: publish before close(), or use another');
    if (records.length === 0) return [];
    const publication = new Publication(topic, records, this.timeoutMs);
    for (const slice of publication.slices()) this.queue.push(slice);
    this.sending ??= this.sendUntilEmpty().finally(() => (this.sending = undefined));
    return publication.result;
  }

  /** Tries until there is a connection or the producer has ended. */
  connect(): Promise<void> {
    this.connecting ??= this.connectUntilItWorks().finally(() => (this.connecting = undefined));
    return this.connecting;
  }

  /** Waits for what has been published before, each no longer than its time. */
  async close(): Promise<void> {
    this.closing = true;
    await this.sending;
    this.ended = true;
    this.discard();
  }

  private get hasConnection(): boolean {
    return this.client?.gate.connected ?? false;
  }

  private async connectUntilItWorks(): Promise<void> {
    for (let delay = 100; !this.ended && !this.hasConnection; delay = Math.min(2 * delay, longestReconnectDelayMs)) {
      this.client ??= this.newClient();
      try {
        await this.client.producer.connect();
        // kafkajs may not have noticed yet that its connection is gone.
        if (this.hasConnection) return;
      } catch (error) {
        this.logger.warn('no connection for publishing yet, trying again', { error: errorText(error) });
        if (!this.requestInFlight) this.discard();
      }
      await sleep(delay);
    }
  }

  private newClient(): KafkaClient & { readonly producer: Producer } {
    const retrySeconds = Math.ceil(this.timeoutMs / 1000);
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
    return { ...client, producer };
  }

  private discard(): void {
    this.client?.gate.cut();
    this.client = undefined;
  }

  private async sendUntilEmpty(): Promise<void> {
    // One turn later, so that publications of the same moment share the first request.
    await Promise.resolve();
    while (this.queue.size > 0) {
      // Not for ever: publications expire meanwhile.
      if (!this.hasConnection) await Promise.race([this.connect(), sleep(100)]);
      const request = this.nextRequest();
      const [first] = request;
      if (first) await this.sendRequest(first.publication.topic, request);
    }
  }

  /** As many of the next slices as fit, all to the same topic: what is wrong with one topic must not fail another. */
  private nextRequest(): Slice[] {
    const request: Slice[] = [];
    let [records, bytes] = [0, 0];
    for (let next = this.queue.first; next; next = this.queue.first) {
      if (!next.publication.settled) {
        if (!this.hasConnection) break;
        records += next.records.length;
        bytes += next.bytes;
        const belongs = next.publication.topic === request[0]?.publication.topic && fitsOneRequest(records, bytes);
        if (request.length > 0 && !belongs) break;
        request.push(next);
      }
      this.queue.shift();
    }
    return request;
  }

  private async sendRequest(topic: string, request: readonly Slice[]): Promise<void> {
    const { client } = this;
    this.requestInFlight = true;
    try {
      if (!client) throw new Error('the connection is gone');
      const messages = request.flatMap(({ records }) => records.map(toKafkaMessage));
      const appended = await client.producer.send({ topic, acks: -1, messages });
      const next = new Map(appended.map(({ partition, baseOffset }) => [partition, BigInt(baseOffset ?? -1)]));
      for (const { publication, records } of request) {
        publication.confirm(records.map(({ partition }) => ({ topic, partition, offset: take(next, partition) })));
      }
    } catch (error) {
      // Its next sequence number is in doubt now. Used for other records, the broker would take them for duplicates and
      // drop them; a new producer has a new identity.
      if (client === this.client) {
        this.discard();
        // Not only when there is more to publish: whoever waits until we are connected would wait for ever.
        if (!this.ended) void this.connect();
      }
      for (const { publication } of request) publication.reject(errorText(error));
    } finally {
      this.requestInFlight = false;
    }
  }
}

/** A partition's records of one request lie one behind the other. */
function take(next: Map<number, bigint>, partition: number): string {
  const offset = next.get(partition);
  if (offset === undefined || offset < 0n) throw new Error(`the broker did not answer for partition ${partition}`);
  next.set(partition, offset + 1n);
  return String(offset);
}

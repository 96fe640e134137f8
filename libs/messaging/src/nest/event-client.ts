import { ClientProxy, type ReadPacket } from '@nestjs/microservices';
import { createMessage, type MessageFields } from '../message.js';
import type { EventTransport, RecordPosition } from '../transport/event-transport.js';

export interface EventClientOptions {
  /** Stays open when the client closes: whoever opened it closes it. */
  readonly transport: EventTransport;
  /** Topic of the service that owns the events. */
  readonly topic: string;
  /** Name of this service. */
  readonly source: string;
}

/** What `emit` takes: the key and the data of the event, and any other field of its envelope. */
export interface EventPayload extends Partial<Omit<MessageFields, 'type' | 'source'>> {
  /** Stream id: the key of the record. */
  readonly subject: string;
  /** JSON value. */
  readonly data: unknown;
}

/**
 * Nest client over any {@link EventTransport}:
 *
 *     const position = await lastValueFrom(client.emit<RecordPosition, EventPayload>('user.registered', { subject, data }));
 *
 * The observable gives the position of the record once every replica has it. As with every Nest client the event is on
 * its way without a subscription, but then nobody hears of a failure. What has to be consistent with a database belongs
 * into the outbox instead.
 */
export class EventClient extends ClientProxy {
  constructor(private readonly options: EventClientOptions) {
    super();
  }

  /** Nothing to do: the transport is connected, or waits by itself when the broker is away. */
  async connect(): Promise<void> {
    await Promise.resolve();
  }

  close(): void {
    // The transport belongs to whoever opened it.
  }

  unwrap<T>(): T {
    return this.options.transport as T;
  }

  protected override publish(): never {
    throw new Error('events have no reply: emit() them, or send a command through a CommandTransport');
  }

  protected override async dispatchEvent<T = RecordPosition>({ pattern, data }: ReadPacket<EventPayload>): Promise<T> {
    const { transport, topic, source } = this.options;
    const message = createMessage({ version: 1, ...data, type: this.normalizePattern(pattern as string), source });
    const [position] = await transport.publish(topic, [message]);
    return position as T;
  }
}

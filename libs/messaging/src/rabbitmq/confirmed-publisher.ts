import { setTimeout as sleep } from 'node:timers/promises';
import { IllegalOperationError, type ConfirmChannel, type Message as AmqpReturn, type Options } from 'amqplib';
import { InvalidMessageError, NotConfirmedError, UnroutableError } from '../errors.js';
import { LinkedQueue } from '../linked-queue.js';
import type { AmqpMessage } from './amqp-envelope.js';

export interface ConfirmedPublisherOptions {
  /** Most messages that the broker has not confirmed yet; the rest waits. */
  readonly confirmWindow: number;
  /** A message fails when it has waited so long and the broker confirmed nothing meanwhile. */
  readonly sendTimeoutMs: number;
}

interface Publication {
  readonly exchange: string;
  readonly routingKey: string;
  readonly message: AmqpMessage;
  readonly since: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
  returned: boolean;
}

/**
 * Publishes in the order of the calls. Each message has its own callback on the confirm channel, because a wait for "all
 * confirms" cannot tell which message was lost. Messages that were not written yet survive the loss of the channel and
 * go out on the next one; those that were written but not confirmed are rejected, since nobody knows.
 */
export class ConfirmedPublisher {
  private readonly queue = new LinkedQueue<Publication>();
  private readonly unconfirmed = new Set<Publication>();
  private channel: ConfirmChannel | undefined;
  /** The socket's buffer is full. Belongs to the channel: `drain` never comes on one that dies. */
  private saturated = false;
  /** The broker has raised an alarm (memory, disk) and reads nothing. */
  private blockedBy: string | undefined;
  private closed = false;
  private lastProgress = 0;
  private watchdog: NodeJS.Timeout | undefined;
  private readonly idle = new Set<() => void>();

  constructor(private readonly options: ConfirmedPublisherOptions) {}

  get ready(): boolean {
    return this.channel !== undefined && this.blockedBy === undefined && !this.closed;
  }

  /**
   * @throws RefusedError when the message cannot be taken: UnroutableError when no queue is bound
   * @throws NotConfirmedError when it is unknown whether the broker has it
   */
  publish(exchange: string, routingKey: string, message: AmqpMessage): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.closed) return reject(notConfirmed(message, 'the transport is closed', 'open a new one'));
      this.queue.push({ exchange, routingKey, message, since: Date.now(), resolve, reject, returned: false });
      this.watchdog ??= setInterval(() => this.failStalled(), Math.max(1, this.options.sendTimeoutMs / 10)).unref();
      this.pump();
    });
  }

  attach(channel: ConfirmChannel): void {
    channel.on('drain', () => {
      if (channel !== this.channel) return;
      this.saturated = false;
      this.pump();
    });
    channel.on('return', (returned) => this.markReturned(returned));
    this.channel = channel;
    this.saturated = false;
    this.blockedBy = undefined;
    this.lastProgress = Date.now();
    this.pump();
  }

  detach(): void {
    this.channel = undefined;
  }

  block(reason: string | undefined): void {
    this.blockedBy = reason;
    this.pump();
  }

  /** Fails what comes later and waits for what is on its way, but not longer than a send may take. */
  async close(): Promise<void> {
    this.closed = true;
    if (this.pending === 0) return;
    const idle = new Promise<void>((resolve) => this.idle.add(resolve));
    await Promise.race([idle, sleep(this.options.sendTimeoutMs, undefined, { ref: false })]);
    clearInterval(this.watchdog);
  }

  private get pending(): number {
    return this.queue.size + this.unconfirmed.size;
  }

  private pump(): void {
    const { confirmWindow } = this.options;
    while (this.channel && !this.saturated && this.blockedBy === undefined && this.unconfirmed.size < confirmWindow) {
      const next = this.queue.shift();
      if (!next) break;
      this.write(this.channel, next);
    }
    this.noticeIdle();
  }

  private write(channel: ConfirmChannel, publication: Publication): void {
    const { exchange, routingKey, message } = publication;
    const options = { ...message.properties, mandatory: true } as Options.Publish;
    try {
      const flowing = channel.publish(exchange, routingKey, message.content, options, (error: Error | null) =>
        this.settle(publication, error),
      );
      this.unconfirmed.add(publication);
      this.saturated = !flowing;
    } catch (error) {
      if (error instanceof IllegalOperationError) {
        // The channel is closing; its close event follows, and the message goes out on the next channel.
        this.queue.unshift(publication);
        this.channel = undefined;
      } else {
        publication.reject(unencodable(message, error));
      }
    }
  }

  private settle(publication: Publication, error: Error | null): void {
    this.unconfirmed.delete(publication);
    this.lastProgress = Date.now();
    const { exchange, routingKey, message } = publication;
    if (error) {
      publication.reject(notConfirmed(message, error.message, 'send it again'));
    } else if (publication.returned) {
      publication.reject(
        new UnroutableError(
          `No queue is bound to exchange "${exchange}" with key "${routingKey}" (message ${nameOf(message)}); deploy its consumer or correct the key`,
        ),
      );
    } else {
      publication.resolve();
    }
    this.pump();
  }

  /** The broker returns a message just before it confirms it. Twins of one message share their fate, so the first will do. */
  private markReturned({ fields, properties }: AmqpReturn): void {
    for (const publication of this.unconfirmed) {
      const { exchange, routingKey, message, returned } = publication;
      if (
        !returned &&
        exchange === fields.exchange &&
        routingKey === fields.routingKey &&
        message.properties.messageId === properties.messageId
      ) {
        publication.returned = true;
        return;
      }
    }
  }

  private failStalled(): void {
    const limit = Date.now() - this.options.sendTimeoutMs;
    if (this.lastProgress > limit) return;
    // What was written stays in the window until its channel says what became of it.
    for (const publication of this.unconfirmed) {
      if (publication.since <= limit) publication.reject(this.stalled(publication));
    }
    while (this.queue.first && this.queue.first.since <= limit) {
      const publication = this.queue.shift();
      publication?.reject(this.stalled(publication));
    }
    this.noticeIdle();
  }

  private stalled({ message }: Publication): NotConfirmedError {
    const { sendTimeoutMs } = this.options;
    const problem = this.blockedBy === undefined ? '' : `; it is blocked: ${this.blockedBy}`;
    return notConfirmed(
      message,
      `RabbitMQ confirmed nothing for ${sendTimeoutMs} ms${problem}`,
      'check that it runs and is reachable, then send it again',
    );
  }

  private noticeIdle(): void {
    if (this.pending > 0) return;
    clearInterval(this.watchdog);
    this.watchdog = undefined;
    for (const resolve of this.idle) resolve();
    this.idle.clear();
  }
}

const nameOf = ({ properties }: AmqpMessage): string => `${properties.type ?? ''} ${properties.messageId ?? ''}`.trim();

/** amqplib encodes a message before it writes any of it, so nothing of this one has left. */
const unencodable = (message: AmqpMessage, error: unknown): InvalidMessageError =>
  new InvalidMessageError(
    `Message ${nameOf(message).slice(0, 300)} cannot be written as AMQP (${(error as Error).message}); ids, types, sources and addresses take up to 255 bytes, all headers together 64 KiB`,
    { cause: error },
  );

const notConfirmed = (message: AmqpMessage, problem: string, remedy: string): NotConfirmedError =>
  new NotConfirmedError(
    `It is unknown whether RabbitMQ has message ${nameOf(message)}: ${problem}. Its id makes a duplicate harmless: ${remedy}`,
  );

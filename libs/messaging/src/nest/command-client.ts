import { ClientProxy, type ReadPacket, type WritePacket } from '@nestjs/microservices';
import { TerminalError, TimeoutError } from '../errors.js';
import { createMessage, newMessageId, type Message, type MessageFields } from '../message.js';
import { deadLetter, done, type Outcome } from '../outcome.js';
import { CommandFailed, CommandSucceeded } from '../reply.js';
import { commandsExchange, type CommandTransport } from '../transport/command-transport.js';
import type { Consumer } from '../transport/delivery.js';

export interface CommandClientOptions {
  /** Stays open when the client closes: whoever opened it closes it. */
  readonly transport: CommandTransport;
  /** Name of this service. */
  readonly source: string;
  /**
   * Queue for the replies to `send`; `emit` needs none. It is durable, so give each running client a name of its own that
   * it has again after a restart (`user-service-0.replies`): a random name would leave a queue behind each time.
   */
  readonly replyQueue?: string;
  /** `send` fails when there is no reply within this time. Default 30 000. */
  readonly replyTimeoutMs?: number;
}

/** What `emit` and `send` take: the data of the command, and any other field of its envelope. */
export interface CommandPayload extends Partial<Omit<MessageFields, 'type' | 'source' | 'replyTo'>> {
  /** JSON value. */
  readonly data: unknown;
}

type ReplyCallback = (packet: WritePacket) => void;

interface PendingRequest {
  readonly callback: ReplyCallback;
  readonly timer: NodeJS.Timeout;
}

/**
 * Nest client over any {@link CommandTransport}:
 *
 *     await lastValueFrom(client.emit<void, CommandPayload>('user.register', { data }));
 *     const user = await lastValueFrom(client.send<User, CommandPayload>('user.find', { data }));
 *
 * `emit` completes once the broker has confirmed the command; `send` gives the handler's result, or fails with a
 * TerminalError that carries the reason, or with a TimeoutError.
 */
export class CommandClient extends ClientProxy {
  private readonly pending = new Map<string, PendingRequest>();
  private connecting: Promise<void> | undefined;
  private listening: Promise<Consumer> | undefined;

  constructor(private readonly options: CommandClientOptions) {
    super();
  }

  connect(): Promise<void> {
    this.connecting ??= this.options.transport
      .declare({ exchanges: [{ name: commandsExchange, type: 'direct' }] })
      .catch((error: unknown) => {
        this.connecting = undefined;
        throw error;
      });
    return this.connecting;
  }

  /** Requests without a reply fail. */
  async close(): Promise<void> {
    const consumer = await this.listening?.catch(() => undefined);
    await consumer?.close();
    for (const id of this.pending.keys()) {
      this.settle(id, {
        err: new TimeoutError('The client was closed before the reply came; send again with another'),
      });
    }
  }

  unwrap<T>(): T {
    return this.options.transport as T;
  }

  protected override async dispatchEvent<T>({ pattern, data }: ReadPacket<CommandPayload>): Promise<T> {
    await this.options.transport.send(this.message(pattern, data));
    return undefined as T;
  }

  protected override publish({ pattern, data }: ReadPacket<CommandPayload>, callback: ReplyCallback): () => void {
    const id = data.id ?? newMessageId();
    this.request(id, pattern, data, callback).catch((err: unknown) => {
      if (!this.settle(id, { err })) callback({ err });
    });
    return () => this.forget(id);
  }

  private async request(id: string, pattern: unknown, data: CommandPayload, callback: ReplyCallback): Promise<void> {
    const { transport, replyQueue, replyTimeoutMs = 30_000 } = this.options;
    if (replyQueue === undefined) {
      throw new TerminalError(
        'send() needs a queue for replies: give the CommandClient a replyQueue, or emit() instead',
      );
    }
    await this.listen(replyQueue);
    const timer = setTimeout(() => {
      const problem = `No reply to ${String(pattern)} ${id} within ${replyTimeoutMs} ms`;
      this.settle(id, {
        err: new TimeoutError(`${problem}; it may still be handled, so send it again with the same id`),
      });
    }, replyTimeoutMs);
    this.pending.set(id, { callback, timer });
    await transport.send(
      createMessage({ ...this.message(pattern, data), id, replyTo: { address: replyQueue, subject: id } }),
    );
  }

  private message(pattern: unknown, data: CommandPayload): Message {
    return createMessage({
      version: 1,
      ...data,
      type: this.normalizePattern(pattern as string),
      source: this.options.source,
    });
  }

  private listen(replyQueue: string): Promise<Consumer> {
    this.listening ??= this.consumeReplies(replyQueue).catch((error: unknown) => {
      this.listening = undefined;
      throw error;
    });
    return this.listening;
  }

  private async consumeReplies(name: string): Promise<Consumer> {
    const { transport } = this.options;
    await transport.declare({
      queues: [{ name }],
      bindings: [{ exchange: commandsExchange, queue: name, routingKey: name }],
    });
    return transport.consume(name, async ({ message }) => this.receive(message));
  }

  /** A reply that nobody waits for any more is kept for a human: what it answers has taken effect. */
  private receive(reply: Message): Outcome {
    const { requestId, result, reason } = reply.data as { requestId: string; result?: unknown; reason?: string };
    const packets: Record<string, WritePacket> = {
      [CommandSucceeded.type]: { response: result, isDisposed: true },
      [CommandFailed.type]: { err: new TerminalError(`The command was refused: ${reason}`) },
    };
    const packet = packets[reply.type];
    if (packet && this.settle(requestId, packet)) return done;
    return deadLetter(
      `nobody waits for ${reply.type} to request ${requestId}; it came too late or was misdirected`,
      'LateReply',
    );
  }

  private settle(id: string, packet: WritePacket): boolean {
    const request = this.pending.get(id);
    if (!request) return false;
    this.forget(id);
    request.callback(packet);
    return true;
  }

  private forget(id: string): void {
    clearTimeout(this.pending.get(id)?.timer);
    this.pending.delete(id);
  }
}

import type { Socket } from 'node:net';
import type { ConnectionOptions } from 'node:tls';
import { connect, type ChannelModel, type ConfirmChannel } from 'amqplib';
import { coalesceWrites } from '../coalesce-writes.js';
import { NotConfirmedError, TerminalError, TransientError, UnroutableError } from '../errors.js';
import { errorText, silentLogger, type Logger } from '../logger.js';
import type { Message } from '../message.js';
import {
  commandsExchange,
  type CommandTransport,
  type ConsumeOptions,
  type SendOptions,
  type Topology,
} from '../transport/command-transport.js';
import type { DeadLetterHandler } from '../transport/dead-letter.js';
import type { Consumer, DeliveryHandler } from '../transport/delivery.js';
import { encodeAmqp, refuseAddress, type AmqpMessage } from './amqp-envelope.js';
import { ConfirmedPublisher } from './confirmed-publisher.js';
import { handling, takingDeadLetters, type OutcomePublisher, type Work } from './delivery-outcome.js';
import { KeptOpen } from './kept-open.js';
import { deadLetterQueue, retryQueue, roundUpDelay } from './queue-names.js';
import { keepFramesReadable } from './readable-frames.js';
import { RabbitMqConsumer } from './rabbitmq-consumer.js';
import {
  applyDeclarations,
  applyEach,
  declarationsOf,
  exchangeCheck,
  retryQueueDeclaration,
  type Declaration,
} from './rabbitmq-topology.js';
import { withinLimit } from './time-limit.js';

export interface RabbitMqOptions {
  /** `amqp://user:password@host:port/vhost`, or `amqps://…`. */
  readonly url: string;
  /** For `amqps`, besides what Node trusts by itself. */
  readonly tls?: Pick<ConnectionOptions, 'ca' | 'cert' | 'key'>;
  readonly logger?: Logger;
  /** Shown for the connection in RabbitMQ's own tools. Default: the process id. */
  readonly connectionName?: string;
  /** Most messages for one exchange and routing key that are sent but not confirmed; in all, four times as many. Default 500. */
  readonly confirmWindow?: number;
  /** A send fails when the broker has not confirmed it for so long. Default 5 000. */
  readonly sendTimeoutMs?: number;
  /** How long to try for the first connection; afterwards it reconnects for as long as it takes. Default 10 000. */
  readonly startTimeoutMs?: number;
  /** A peer that is silent for twice as long is taken for dead. Default 10. */
  readonly heartbeatSeconds?: number;
}

/**
 * @throws TransientError when RabbitMQ does not answer within `startTimeoutMs`
 * @throws TerminalError when it refuses the credentials or the virtual host of the URL
 */
export async function connectRabbitMq(options: RabbitMqOptions): Promise<CommandTransport> {
  if (!URL.canParse(options.url)) {
    throw new TerminalError('The URL of RabbitMQ cannot be read; give one like amqp://user:password@host:5672');
  }
  const transport = new RabbitMqCommandTransport(options);
  await transport.open();
  return transport;
}

class RabbitMqCommandTransport implements CommandTransport, OutcomePublisher {
  private readonly logger: Logger;
  private readonly sendTimeoutMs: number;
  private readonly connection: KeptOpen<ChannelModel>;
  private readonly publishing: KeptOpen<ConfirmChannel>;
  private readonly publisher: ConfirmedPublisher;
  private readonly consumers = new Set<RabbitMqConsumer>();
  /** By name, in the order of their declaration. */
  private readonly topology = new Map<string, Declaration>();
  /** Exchanges and retry queues that were seen to exist on this connection. */
  private readonly existing = new Map<string, Promise<void>>();
  /** Exchanges whose check is done: most messages need not wait a turn for it. */
  private readonly seen = new Set<string>();

  constructor(private readonly options: RabbitMqOptions) {
    const { logger = silentLogger, confirmWindow = 500, sendTimeoutMs = 5_000 } = options;
    this.logger = logger;
    this.sendTimeoutMs = sendTimeoutMs;
    this.publisher = new ConfirmedPublisher({
      ...{ confirmWindow, sendTimeoutMs },
      replaceChannel: () => {
        // A rejection means that it is closed already.
        this.publishing.current?.close().catch(() => undefined);
      },
    });
    this.connection = new KeptOpen<ChannelModel>({
      name: 'the connection to RabbitMQ',
      logger,
      open: async () => {
        const connection = await connect(addressOf(options), socketOptions(options));
        // Not in its types, but what everything of the connection is written to.
        coalesceWrites((connection.connection as unknown as { readonly stream: Socket }).stream);
        keepFramesReadable(connection.connection);
        return connection;
      },
      prepare: async (connection) => {
        connection.on('blocked', (reason: string) => this.publisher.block(reason));
        connection.on('unblocked', () => this.publisher.block(undefined));
        await applyEach(connection, this.topology.values(), logger);
      },
    });
    this.publishing = new KeptOpen<ConfirmChannel>({
      name: 'the publishing channel',
      logger,
      open: async () => (await this.connection.whenOpen()).createConfirmChannel(),
      prepare: async (channel) => {
        // One round trip, which fails when the channel closed before anything listened to it.
        await channel.checkExchange('amq.direct');
      },
      onOpen: (channel) => this.publisher.attach(channel),
      onClosed: () => {
        this.existing.clear();
        this.seen.clear();
        this.publisher.detach();
      },
    });
  }

  get longestSendMs(): number {
    return this.sendTimeoutMs;
  }

  get connected(): boolean {
    return this.publisher.ready;
  }

  async open(): Promise<void> {
    try {
      await this.connection.start(this.options.startTimeoutMs ?? 10_000);
      await this.publishing.start(this.sendTimeoutMs);
    } catch (error) {
      await this.close();
      const ErrorType = isRefusal(error) ? TerminalError : TransientError;
      throw new ErrorType(
        `RabbitMQ at ${new URL(this.options.url).host} cannot be used (${errorText(error)}); start it, or correct the URL, its credentials and its virtual host`,
        { cause: error },
      );
    }
  }

  async declare(topology: Topology): Promise<void> {
    const declarations = declarationsOf(topology);
    await applyDeclarations(await this.connection.whenOpen(this.sendTimeoutMs), declarations);
    for (const declaration of declarations) this.topology.set(declaration.name, declaration);
  }

  async send(message: Message, options: SendOptions = {}): Promise<void> {
    const { exchange = commandsExchange, routingKey = message.type } = options;
    const encoded = encodeAmqp(message);
    refuseAddress(exchange, routingKey);
    await this.exchangeExists(exchange, message.id);
    await this.publisher.publish(exchange, routingKey, encoded);
  }

  consume(queue: string, handler: DeliveryHandler, options: ConsumeOptions = {}): Promise<Consumer> {
    return this.attach(queue, handling(handler, this, this.logger), options, queue, true);
  }

  consumeDeadLetters(queue: string, handler: DeadLetterHandler): Promise<Consumer> {
    return this.attach(deadLetterQueue(queue), takingDeadLetters(queue, handler), { prefetch: 500 }, queue, false);
  }

  /** `declared`: the queue that this one was declared with. */
  private async attach(
    queue: string,
    work: Work,
    options: ConsumeOptions,
    declared: string,
    mayReject: boolean,
  ): Promise<Consumer> {
    const { prefetch = 100, flow = {} } = options;
    await this.connection.whenOpen(this.sendTimeoutMs);
    const consumer = new RabbitMqConsumer({
      ...{ queue, work, prefetch, flow, mayReject },
      logger: this.logger,
      connect: () => this.connection.whenOpen(),
      restoreQueue: () => this.restoreQueue(declared),
      messagesReady: () => this.messagesReady(queue),
      onClosed: () => this.consumers.delete(consumer),
    });
    await consumer.start();
    this.consumers.add(consumer);
    return consumer;
  }

  async close(): Promise<void> {
    await Promise.all([...this.consumers].map((consumer) => consumer.close()));
    await this.publisher.close();
    await this.publishing.stop();
    await this.connection.stop();
  }

  async publishTo(queue: string, message: AmqpMessage): Promise<void> {
    try {
      await this.publisher.publish('', queue, message);
    } catch (error) {
      // Somebody deleted a retry queue: declare it again next time.
      if (error instanceof UnroutableError) this.existing.delete(queue);
      throw error;
    }
  }

  async publishLater(queue: string, message: AmqpMessage, delayMs: number): Promise<void> {
    const rounded = roundUpDelay(delayMs);
    const name = retryQueue(queue, rounded);
    const connection = await this.connection.whenOpen(this.sendTimeoutMs);
    await this.once(name, () => applyDeclarations(connection, [retryQueueDeclaration(queue, rounded)]));
    await this.publishTo(name, message);
  }

  /** On a channel of its own: asking for a queue that somebody deleted closes the channel. */
  private async messagesReady(queue: string): Promise<number> {
    const channel = await (await this.connection.whenOpen(this.sendTimeoutMs)).createChannel();
    // Its error also comes as the rejection below.
    channel.on('error', () => undefined);
    const { messageCount } = await withinLimit(channel.checkQueue(queue));
    await channel.close();
    return messageCount;
  }

  /** A queue that was deleted (which cancels its consumers) is declared and bound again. */
  private async restoreQueue(queue: string): Promise<void> {
    const declarations = [...this.topology.values()].filter((declaration) => declaration.queue === queue);
    await applyEach(await this.connection.whenOpen(), declarations, this.logger);
  }

  /** Publishing to an exchange that does not exist would close the channel, and every unconfirmed message with it. */
  private async exchangeExists(exchange: string, messageId: string): Promise<void> {
    if (exchange === '' || this.seen.has(exchange)) return;
    try {
      const connection = await this.connection.whenOpen(this.sendTimeoutMs);
      const check = this.once(`exchange ${exchange}`, () => applyDeclarations(connection, [exchangeCheck(exchange)]));
      await withinLimit(check, this.sendTimeoutMs);
      this.seen.add(exchange);
    } catch (error) {
      const reason = `Message ${messageId} was not sent. ${errorText(error)}`;
      if (error instanceof TerminalError) throw new UnroutableError(reason, { cause: error });
      throw new NotConfirmedError(`${reason}; then send it again`, { cause: error });
    }
  }

  private once(name: string, declare: () => Promise<void>): Promise<void> {
    let declared = this.existing.get(name);
    if (!declared) {
      declared = declare();
      this.existing.set(name, declared);
      declared.catch(() => this.existing.delete(name));
    }
    return declared;
  }
}

function addressOf({ url, heartbeatSeconds = 10 }: RabbitMqOptions): string {
  const address = new URL(url);
  if (!address.searchParams.has('heartbeat')) address.searchParams.set('heartbeat', String(heartbeatSeconds));
  return address.href;
}

/** It answered and wants nothing to do with us: its words for wrong credentials, and amqplib's for a virtual host that is not there. */
function isRefusal(error: unknown): boolean {
  return /ACCESS[-_]REFUSED|Expected ConnectionOpenOk; got <ConnectionClose/.test(errorText(error));
}

function socketOptions({ connectionName = `process ${process.pid}`, tls }: RabbitMqOptions) {
  return { ...tls, noDelay: true, timeout: 10_000, clientProperties: { connection_name: connectionName } };
}

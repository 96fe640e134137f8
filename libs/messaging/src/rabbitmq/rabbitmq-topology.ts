import type { Channel, ChannelModel, Options } from 'amqplib';
import { TerminalError, TransientError } from '../errors.js';
import { errorText, type Logger } from '../logger.js';
import type { Topology } from '../transport/command-transport.js';
import { deadLetterQueue, retryQueue } from './queue-names.js';
import { withinLimit } from './time-limit.js';

/** One idempotent declaration; its name identifies it and stands in error messages. */
export interface Declaration {
  readonly name: string;
  /** The queue it declares or binds, or serves as dead-letter queue. */
  readonly queue?: string;
  readonly apply: (channel: Channel) => Promise<unknown>;
}

/**
 * We count attempts ourselves, so the broker must not give up on a message that merely was in the prefetch window of
 * processes that crashed. RabbitMQ 3.10 has no limit, 4.x has 20 unless told otherwise, and only 4.x knows -1: a limit
 * that is never reached is the one shape that means the same to both, so that a queue survives the upgrade.
 */
const noDeliveryLimit = 2 ** 31 - 1;

const quorumQueue = (args: Record<string, unknown> = {}): Options.AssertQueue => ({
  durable: true,
  arguments: { 'x-queue-type': 'quorum', 'x-delivery-limit': noDeliveryLimit, ...args },
});

/** At-least-once, so that the broker does not lose a message on its way; that strategy needs `reject-publish`. */
const deadLetteringTo = (queue: string): Record<string, unknown> => ({
  'x-dead-letter-exchange': '',
  'x-dead-letter-routing-key': queue,
  'x-dead-letter-strategy': 'at-least-once',
  'x-overflow': 'reject-publish',
});

export function declarationsOf({ exchanges = [], queues = [], bindings = [] }: Topology): Declaration[] {
  return [
    ...exchanges.map(({ name, type }) => ({
      name: exchangeName(name),
      apply: (channel: Channel) => channel.assertExchange(name, type, { durable: true }),
    })),
    ...queues.flatMap(({ name }) => [
      {
        name: `queue "${deadLetterQueue(name)}"`,
        queue: name,
        apply: (channel: Channel) => channel.assertQueue(deadLetterQueue(name), quorumQueue()),
      },
      {
        name: `queue "${name}"`,
        queue: name,
        apply: (channel: Channel) => channel.assertQueue(name, quorumQueue(deadLetteringTo(deadLetterQueue(name)))),
      },
    ]),
    ...bindings.map(({ exchange, queue, routingKey }) => ({
      name: `binding of queue "${queue}" to exchange "${exchange}" with key "${routingKey}"`,
      queue,
      apply: (channel: Channel) => channel.bindQueue(queue, exchange, routingKey),
    })),
  ];
}

/** No `x-expires`: it would drop the messages that still wait in it. */
export function retryQueueDeclaration(queue: string, delayMs: number): Declaration {
  const name = retryQueue(queue, delayMs);
  const args = { ...deadLetteringTo(queue), 'x-message-ttl': delayMs };
  return { name: `queue "${name}"`, apply: (channel) => channel.assertQueue(name, quorumQueue(args)) };
}

export function exchangeCheck(exchange: string): Declaration {
  return { name: exchangeName(exchange), apply: (channel) => channel.checkExchange(exchange) };
}

const exchangeName = (exchange: string): string => `exchange "${exchange}"`;

/**
 * On a channel of its own, because the broker closes the channel of a declaration that it refuses.
 * @throws TerminalError when the broker refuses one; TransientError when the connection broke
 */
export async function applyDeclarations(connection: ChannelModel, declarations: readonly Declaration[]): Promise<void> {
  const channel = await connection.createChannel().catch((error: unknown) => {
    throw new TransientError(`The topology was not declared (${errorText(error)}); try again`, { cause: error });
  });
  // The rejection of the call says the same.
  channel.on('error', () => undefined);
  let current = 'topology';
  try {
    for (const { name, apply } of declarations) {
      current = name;
      await withinLimit(apply(channel));
    }
  } catch (error) {
    channel.close().catch(() => undefined);
    throw declarationError(current, error);
  }
  await channel.close().catch(() => undefined);
}

/** After a reconnect one refused declaration must not keep all others, and every consumer, from coming back. */
export async function applyEach(
  connection: ChannelModel,
  declarations: Iterable<Declaration>,
  logger: Logger,
): Promise<void> {
  const remaining = [...declarations];
  try {
    await applyDeclarations(connection, remaining);
  } catch {
    for (const declaration of remaining) {
      await applyDeclarations(connection, [declaration]).catch((error: unknown) => {
        if (error instanceof TransientError) throw error;
        logger.error('the topology could not be restored', { error: errorText(error) });
      });
    }
  }
}

function declarationError(name: string, error: unknown): Error {
  const reason = error instanceof Error ? error.message : String(error);
  const code = typeof error === 'object' && error !== null && 'code' in error ? error.code : undefined;
  if (code === 406) {
    return new TerminalError(
      `The ${name} exists with another shape (${reason}). Delete it once it is empty and declare it again, or choose another name`,
      { cause: error },
    );
  }
  if (code === 404) {
    return new TerminalError(`The ${name} does not exist (${reason}). Declare the exchange and the queue first`, {
      cause: error,
    });
  }
  if (typeof code === 'number') {
    return new TerminalError(`RabbitMQ refused the ${name} (${reason}). Check its name and the user's permissions`, {
      cause: error,
    });
  }
  return new TransientError(`The ${name} was not declared (${reason}); try again`, { cause: error });
}

import { MessagePattern } from '@nestjs/microservices';
import type { CommandHandlerOptions } from '../consumer/command-consumer.js';
import type { Received } from '../consumer/dispatcher.js';
import type { DataOf, MessageDefinition } from '../definition.js';
import type { Messaging } from '../messaging.js';
import type { Outcome } from '../outcome.js';
import { commandStrategy } from './command-strategy.js';
import { declareHandler, type HandlerDecorator } from './handler-decorator.js';
import { outcomeFrom } from './outcome-from.js';

/**
 * A method of a controller that handles a command of this service:
 *
 *     @OnCommand(SendEmail, { failurePolicy: { maxRetries: 5 } })
 *     send({ data, message, signal }: Received<typeof SendEmail>): Promise<Outcome | void>
 *
 * Returning nothing means done; a throw is mapped by the failure policy. It is delivered at least once: the inbox (`admitOnce`, or
 * an actor's `once`) makes its effects in the database exactly once.
 */
export const OnCommand = <Definition extends MessageDefinition & { readonly kind: 'command' }>(
  definition: Definition,
  options: CommandHandlerOptions = {},
): HandlerDecorator<Received<Definition>, DataOf<Definition>, Outcome | void> =>
  declareHandler(
    definition,
    (extras) => MessagePattern<string>(definition.type, commandStrategy, extras),
    ({ commands }: Messaging, call, name) =>
      commands.handle(definition, async (received) => outcomeFrom(await call(received.data, received), name), {
        ...options,
        name,
      }),
  );

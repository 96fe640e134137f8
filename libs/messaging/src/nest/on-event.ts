import { EventPattern } from '@nestjs/microservices';
import type { Received } from '../consumer/dispatcher.js';
import type { ReceivedEvent } from '../consumer/event-batch.js';
import type { HandlerOptions } from '../consumer/handler-options.js';
import type { Transaction } from '../database/transaction.js';
import type { DataOf, MessageDefinition } from '../definition.js';
import { TerminalError } from '../errors.js';
import type { Outcome } from '../outcome.js';
import { type EventConsumers, eventStrategy } from './event-strategy.js';
import { declareHandler, type HandlerDecorator } from './handler-decorator.js';
import { outcomeFrom } from './outcome-from.js';

type EventDefinition = MessageDefinition & { readonly kind: 'event' };

interface ConsumerOptions extends HandlerOptions {
  /**
   * Name of the consumer, to which that of the service is added. Methods of one name share a consumer group and its place in the
   * topic: a new method gets what comes from now on, one with a new name all that the topic holds. Never rename it. Default: one
   * for all methods that follow the same service in the same order.
   */
  readonly consumer?: string;
}

export interface ReactionOptions extends ConsumerOptions {
  readonly inSequence?: false;
}

export interface SequenceOptions extends ConsumerOptions {
  /** The events of each key exactly once and in their order, in the transaction that is handed over. */
  readonly inSequence: true;
  /** The method takes all events that share a transaction at once, several of a key among them. */
  readonly manyPerKey?: boolean;
}

/** An event in its place in the sequence of its key. */
export interface ReceivedInSequence<Of = unknown> extends ReceivedEvent<Of> {
  /** Advances the sequence: what is written with it takes effect exactly once. */
  readonly tx: Transaction;
  /** Aborts at the soft time limit; undefined where there is none. */
  readonly signal: AbortSignal | undefined;
}

/** Events that share a transaction, in the sequence of their keys. */
export interface ReceivedTogether<Of = unknown> extends Pick<ReceivedInSequence, 'tx' | 'signal'> {
  readonly events: readonly ReceivedEvent<Of>[];
}

/**
 * A method of a controller that gets the events of one type of the service that owns it:
 *
 *     @OnEvent(UserRegistered)                                         // any order, at least once
 *     greet({ data, message, signal }: Received<typeof UserRegistered>): Promise<Outcome | void>
 *
 *     @OnEvent(UserRegistered, { inSequence: true })                   // one by one, in a transaction that many share
 *     count({ data, tx }: ReceivedInSequence<typeof UserRegistered>): Promise<void>
 *
 *     @OnEvent(UserRegistered, { inSequence: true, manyPerKey: true }) // all of a transaction at once
 *     copy({ events, tx }: ReceivedTogether<typeof UserRegistered>): Promise<void>
 *
 * The payload of the last form is `events`. Only the first form may return an outcome; of the others a throw is mapped by the
 * failure policy, and holds back the key of the event.
 */
export function OnEvent<Definition extends EventDefinition>(
  definition: Definition,
  options: SequenceOptions & { readonly manyPerKey: true },
): HandlerDecorator<ReceivedTogether<Definition>, readonly ReceivedEvent<Definition>[], void>;
export function OnEvent<Definition extends EventDefinition>(
  definition: Definition,
  options: SequenceOptions & { readonly manyPerKey?: false },
): HandlerDecorator<ReceivedInSequence<Definition>, DataOf<Definition>, void>;
export function OnEvent<Definition extends EventDefinition>(
  definition: Definition,
  options?: ReactionOptions,
): HandlerDecorator<Received<Definition>, DataOf<Definition>, Outcome | void>;
export function OnEvent(
  definition: EventDefinition,
  { consumer, ...options }: ReactionOptions | SequenceOptions = {},
): HandlerDecorator<never, never, Outcome | void> {
  const { type, owner } = definition;
  return declareHandler(
    definition,
    (extras) => EventPattern<string>(type, eventStrategy, extras),
    (consumers: EventConsumers, call, name) => {
      if (!options.inSequence) {
        consumers
          .reactor(owner, consumer, name)
          .on(definition, async (received) => outcomeFrom(await call(received.data, received), name), {
            ...options,
            name,
          });
        return;
      }
      const handle = async (payload: unknown, context: object) => refuseResult(await call(payload, context), name);
      const { manyPerKey } = options;
      consumers.inSequence(owner, consumer, name).on(
        definition,
        async (events, tx, signal) => {
          if (manyPerKey) return handle(events, { events, tx, signal } satisfies ReceivedTogether);
          for (const { data, message, attempt } of events) {
            await handle(data, { data, message, attempt, tx, signal } satisfies ReceivedInSequence);
          }
        },
        { ...options, name },
      );
    },
  );
}

/** An outcome would be lost: the transaction decides for all of its events. */
function refuseResult(result: unknown, place: string): void {
  if (result === undefined) return;
  throw new TerminalError(
    `${place}, or an interceptor around it, returned a value; a handler in sequence returns nothing, and throws when it fails`,
  );
}

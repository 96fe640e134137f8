import { Server, type MessageHandler } from '@nestjs/microservices';
import { lastValueFrom } from 'rxjs';
import { outcomeOf, type FailurePolicy } from '../failure-policy.js';
import { errorText } from '../logger.js';
import type { Message } from '../message.js';
import { deadLetter, done, type Outcome } from '../outcome.js';
import { replyFor, type Answer } from '../reply.js';
import { RevokeTask, revocationAddress } from '../tasks/revoke-task.js';
import { commandsExchange, type CommandTransport } from '../transport/command-transport.js';
import type { Consumer, Delivery } from '../transport/delivery.js';
import { DeliveryContext } from './delivery-context.js';
import { isMasked } from './keep-errors.filter.js';

export interface CommandServerOptions {
  /** Stays open when the server closes: whoever opened it closes it. */
  readonly transport: CommandTransport;
  /** Declared, bound for the pattern of every handler and consumed when the server starts to listen. */
  readonly queue: string;
  /** Most handlers at the same time; 1 = fair dispatch one by one. Default 100. */
  readonly prefetch?: number;
  readonly failurePolicy?: FailurePolicy;
}

/** `@MessagePattern('user.register', commandServerId)` binds a handler to this server only, in an application with several. */
export const commandServerId = Symbol('CommandServer');

/**
 * Nest strategy over any {@link CommandTransport}: `@MessagePattern(type)` and `@EventPattern(type)` methods get
 * `(data, context: DeliveryContext)`. A command is acknowledged only after the promise or observable of its handler has
 * completed and the reply that it asked for (`replyTo`; `@MessagePattern` only) is stored. A failure becomes an outcome
 * (`outcomeOf`), and a final one is told to whoever waits for the reply. Delivery is at least once: where a second effect
 * would harm, use the inbox. Register `KeepErrors` as a global filter, so that failures can be told apart.
 */
export class CommandServer extends Server {
  override readonly transportId = commandServerId;
  override readonly propagatesEventHandlerErrors = true;
  private consumer: Consumer | undefined;

  constructor(private readonly options: CommandServerOptions) {
    super();
  }

  get attached(): boolean {
    return this.consumer?.attached ?? false;
  }

  /** Commands whose handlers have not completed. */
  get inFlight(): number {
    return this.consumer?.inFlight ?? 0;
  }

  listen(callback: (error?: unknown) => void): void {
    this.start().then(() => callback(), callback);
  }

  /** Waits for the handlers in flight and settles them. */
  async close(): Promise<void> {
    await this.consumer?.close();
  }

  on(): never {
    throw new Error('CommandServer emits no events: read `attached`, or `connected` of its transport');
  }

  unwrap<T>(): T {
    return this.options.transport as T;
  }

  private async start(): Promise<void> {
    const { transport, queue, prefetch = 100 } = this.options;
    const types = [...this.messageHandlers.keys()];
    await transport.declare({
      exchanges: [{ name: commandsExchange, type: 'direct' }],
      queues: [{ name: queue }],
      bindings: types
        .flatMap((type) => [type, revocationAddress(type)])
        .map((routingKey) => ({ exchange: commandsExchange, queue, routingKey })),
    });
    this.consumer = await transport.consume(queue, (delivery) => this.deliver(delivery), { prefetch });
    this.logger.log(`${queue} handles ${types.join(', ')}`);
  }

  private async deliver(delivery: Delivery): Promise<Outcome> {
    const { message, attempt } = delivery;
    // No handler is a task here.
    if (message.type === RevokeTask.type) return done;
    const handler = this.getHandlerByPattern(message.type);
    if (!handler) return this.fail(delivery, unknownType(this.options.queue, message, this.messageHandlers));
    try {
      const result = await this.handle(handler, delivery);
      if (!handler.isEventHandler) await this.reply(message, { result });
      return done;
    } catch (error) {
      const hint = isMasked(error) ? '; Nest replaced the error: register KeepErrors as a global filter' : '';
      return this.fail(delivery, outcomeOf(error, attempt, this.options.failurePolicy), errorText(error) + hint);
    }
  }

  /** The result does not come back through the processing hooks: an instrumentation's hook need not return it. */
  private handle(handler: MessageHandler, delivery: Delivery): Promise<unknown> {
    const context = new DeliveryContext([delivery]);
    return new Promise((resolve, reject) => {
      this.runWithProcessingHooks(context, async (runEndHook) => {
        const result$ = this.transformToObservable<unknown>(handler(delivery.message.data, context));
        await lastValueFrom(result$, { defaultValue: undefined }).then(resolve, reject).finally(runEndHook);
      });
    });
  }

  /** A retry is not final, so nobody is told. */
  private async fail(delivery: Delivery, outcome: Outcome, problem = 'no handler'): Promise<Outcome> {
    const { message, attempt, origin } = delivery;
    this.logger.warn(`${message.type} ${message.id} (${origin}, attempt ${attempt}): ${outcome.kind}; ${problem}`);
    if (outcome.kind !== 'discard' && outcome.kind !== 'dead-letter') return outcome;
    try {
      const hopeless = outcome.kind === 'discard' ? ({ hopeless: 'invalid' } as const) : {};
      await this.reply(message, { failure: outcome.reason, ...hopeless });
    } catch (error) {
      this.logger.error(`the sender of ${message.type} ${message.id} was not told: ${errorText(error)}`);
    }
    return outcome;
  }

  private async reply(request: Message, answer: Answer): Promise<void> {
    const reply = replyFor(request, answer, this.options.queue);
    if (!reply || !request.replyTo) return;
    await this.options.transport.send(reply, { routingKey: request.replyTo.address });
  }
}

function unknownType(queue: string, { type }: Message, handlers: ReadonlyMap<string, unknown>): Outcome {
  const known = [...handlers.keys()].join(', ') || 'none';
  return deadLetter(`${queue} has no handler for ${type}; it handles: ${known}`, 'UnknownType');
}

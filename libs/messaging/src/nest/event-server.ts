import { Server } from '@nestjs/microservices';
import { lastValueFrom } from 'rxjs';
import { outcomeOf, type FailurePolicy } from '../failure-policy.js';
import { done, type Outcome } from '../outcome.js';
import type { Consumer, Delivery } from '../transport/delivery.js';
import type { EventTransport } from '../transport/event-transport.js';
import { DeliveryContext } from './delivery-context.js';
import { isMasked } from './keep-errors.filter.js';

export interface EventServerOptions {
  /** Stays open when the server closes: whoever opened it closes it. */
  readonly transport: EventTransport;
  /** Consumed from when the server starts to listen, or from when their owners have declared them. */
  readonly topics: readonly string[];
  /** Consumer group on each topic: instances of the service share the partitions. */
  readonly group: string;
  /** Most handlers per topic at once. Default 100. */
  readonly concurrency?: number;
  readonly failurePolicy?: FailurePolicy;
}

/** `@EventPattern('user.registered', eventServerId)` binds a handler to this server only, in an application with several. */
export const eventServerId = Symbol('EventServer');

/**
 * Nest strategy over any {@link EventTransport}: `@EventPattern(type)` methods get `(data, context: DeliveryContext)`. Unlike
 * with Nest's own Kafka server, the offset may be committed only after the promise or observable of every handler has
 * completed, and a failure takes its own way (`outcomeOf`) instead of blocking the partition or being skipped.
 * Events that no handler asks for are settled. Register `KeepErrors` as a global filter, so that failures can be told apart.
 * With a typed context write `@EventPattern<string>('user.registered')`: Nest 12's other overload wants unknown arguments.
 */
export class EventServer extends Server {
  override readonly transportId = eventServerId;
  override readonly propagatesEventHandlerErrors = true;
  private consumers: Consumer[] = [];

  constructor(private readonly options: EventServerOptions) {
    super();
  }

  /** Every topic has its consumer, and each can receive now. */
  get attached(): boolean {
    return this.consumers.length > 0 && this.consumers.every((consumer) => consumer.attached);
  }

  /** Events whose handlers have not completed. */
  get inFlight(): number {
    return this.consumers.reduce((sum, consumer) => sum + consumer.inFlight, 0);
  }

  listen(callback: (error?: unknown) => void): void {
    this.start().then(() => callback(), callback);
  }

  /** Waits for the handlers in flight and settles them. */
  async close(): Promise<void> {
    await Promise.all(this.consumers.splice(0).map((consumer) => consumer.close()));
  }

  on(): never {
    throw new Error('EventServer emits no events: read `attached`, or `connected` of its transport');
  }

  unwrap<T>(): T {
    return this.options.transport as T;
  }

  private async start(): Promise<void> {
    const { transport, topics, group, concurrency = 100 } = this.options;
    this.consumers = await Promise.all(
      topics.map((topic) => transport.subscribe({ topic, group, concurrency }, (delivery) => this.deliver(delivery))),
    );
    const types = [...this.messageHandlers].filter(([, handler]) => handler.isEventHandler).map(([type]) => type);
    this.logger.log(`${group} handles ${types.join(', ')} of ${topics.join(', ')}`);
  }

  private async deliver(delivery: Delivery): Promise<Outcome> {
    const { message, attempt, origin } = delivery;
    try {
      await this.handle(delivery);
      return done;
    } catch (error) {
      const outcome = outcomeOf(error, attempt, this.options.failurePolicy);
      const hint = isMasked(error) ? ', its error replaced by Nest: register KeepErrors as a global filter' : '';
      this.logger.warn(
        `${message.type} ${message.id} (${origin}, attempt ${attempt}) failed: ${outcome.kind}${hint}`,
        error,
      );
      return outcome;
    }
  }

  /** The result does not come back through the processing hooks: an instrumentation's hook need not return it. */
  private async handle(delivery: Delivery): Promise<void> {
    const handler = this.getHandlerByPattern(delivery.message.type);
    if (!handler?.isEventHandler) return;
    const context = new DeliveryContext([delivery]);
    await new Promise((resolve, reject) => {
      this.runWithProcessingHooks(context, async (runEndHook) => {
        const result$ = this.transformToObservable<unknown>(handler(delivery.message.data, context));
        await lastValueFrom(result$, { defaultValue: undefined }).then(resolve, reject).finally(runEndHook);
      });
    });
  }
}

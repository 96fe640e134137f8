import type { z } from 'zod';
import { inTransaction } from '../database/transaction.js';
import { ScheduledEvents, takeOut } from '../dead-letters/scheduled-events.js';
import type { MessageDefinition } from '../definition.js';
import { recordDiscarded } from '../inbox/discarded.js';
import type { StandStill } from '../stand-stills.js';
import { Dispatcher, type Received } from './dispatcher.js';
import type { OrderedHandler } from './event-batch.js';
import type { EventConsumerOptions } from './event-reactor.js';
import type { HandlerOptions } from './handler-options.js';

/**
 * Events that an ordered consumer has discarded and an operator has redriven. Their successors have gone ahead: each takes
 * effect once, out of its order, and the sequence of its key stays as it is.
 */
export class LateEvents {
  private readonly dispatcher: Dispatcher;
  private readonly scheduled: ScheduledEvents;

  constructor(private readonly options: EventConsumerOptions) {
    const { dataSource, consumer, monitor } = options;
    this.dispatcher = new Dispatcher({
      ...options,
      discarded: (discarded) =>
        inTransaction(dataSource, async (tx) => {
          await recordDiscarded(tx, consumer, 'sequenced-event', [discarded]);
        }),
    });
    this.scheduled = new ScheduledEvents({
      ...options,
      handler: monitor.watch(({ message, attempt }) => this.dispatcher.dispatch(message, attempt)),
    });
  }

  on<Schema extends z.ZodType>(
    definition: MessageDefinition & { readonly schema: Schema },
    handler: OrderedHandler<z.output<Schema>>,
    options: HandlerOptions,
  ): void {
    this.dispatcher.register(definition, (received) => this.handle(received, handler), options);
  }

  start(): void {
    this.scheduled.start();
  }

  standStills(ms: number): StandStill[] {
    return this.scheduled.standStills(ms);
  }

  async stop(drainMs?: number): Promise<void> {
    await this.scheduled.stop(drainMs);
    this.dispatcher.abandon();
  }

  private handle<Data>(
    { message, data, attempt, signal, fence }: Received<Data>,
    handler: OrderedHandler<Data>,
  ): Promise<void> {
    const { dataSource, consumer } = this.options;
    return inTransaction(
      dataSource,
      async (tx) => {
        if (await takeOut(tx, consumer, message.id)) await handler([{ data, message, attempt }], tx, signal);
      },
      fence,
    );
  }
}

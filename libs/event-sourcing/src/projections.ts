import type { Messaging } from '@starter/messaging';
import { type OrderedEvents, type OrderedHandler, type ReceivedEvent, type WaitOptions } from '@starter/messaging';
import type { RecordedEvent } from './actor.js';
import { consumerOf, mustNotRefuse, type Projection } from './projection.js';

/** The projections of a service that follow its own topic. */
export class Projections {
  private readonly followed = new Map<string, OrderedEvents>();

  constructor(private readonly messaging: Messaging) {}

  /** Call it before the application has started. */
  follow(projection: Projection): void {
    const { messaging } = this;
    if (projection.states) {
      throw new Error(`${projection.name} writes states and follows no topic; list it in ActorModule.forFeature`);
    }
    const consumer = consumerOf(messaging.service, projection);
    const events = messaging.inSequence(messaging.topic, consumer, { unknownTypes: 'hold' });
    for (const { definition, ignored, write, manyPerStream = false } of projection.handlers.values()) {
      if (ignored) {
        events.ignore(definition);
        continue;
      }
      const handle: OrderedHandler<unknown> = async (batch, tx) =>
        mustNotRefuse(projection, await write(tx, batch.map(recorded)));
      events.on(definition, handle, { manyPerKey: manyPerStream });
    }
    this.followed.set(projection.name, events);
  }

  /**
   * Read your writes: waits until the rows contain the event `version` of a stream, whichever process writes them.
   * @returns false when that was not so within `timeoutMs`, or `signal` was aborted
   * @throws Error when the projection does not follow a topic here
   */
  waitFor(projection: Projection, stream: string, version: number, options: WaitOptions): Promise<boolean> {
    const events = this.followed.get(projection.name);
    if (!events) throw new Error(`${projection.name} follows no topic here; list it in ProjectionModule.forFeature`);
    return events.waitFor(stream, version, options);
  }
}

const recorded = ({ data, message: { type, sequence = 0, time } }: ReceivedEvent): RecordedEvent => ({
  type,
  data,
  sequence,
  time: new Date(time),
});

import type { EventReactor } from '../consumer/event-reactor.js';
import type { OrderedEvents } from '../consumer/ordered-events.js';
import type { Messaging } from '../messaging.js';
import { MessageStrategy } from './message-strategy.js';

/** Binds `@OnEvent` to this strategy only, in an application with several. */
export const eventStrategy = Symbol('EventStrategy');

/** Registers the methods with a consumer for each name, topic and order that they ask for. */
export class EventStrategy extends MessageStrategy<EventConsumers> {
  override readonly transportId = eventStrategy;
  protected readonly target: EventConsumers;

  constructor(messaging: Messaging) {
    super();
    this.target = new EventConsumers(messaging);
  }
}

interface Opened<Consumer> {
  readonly consumer: Consumer;
  readonly topic: string;
  readonly inSequence: boolean;
  /** The first method that asked for it. */
  readonly place: string;
}

/** The consumers that methods have asked for. Those of one name share its consumer group. */
export class EventConsumers {
  private readonly opened = new Map<string, Opened<EventReactor | OrderedEvents>>();

  constructor(private readonly messaging: Messaging) {}

  /** @param name of the consumer, without that of the service */
  reactor(owner: string, name: string | undefined, place: string): EventReactor {
    const { messaging } = this;
    return this.open(owner, name ?? `reactions.${owner}`, { inSequence: false, place }, (topic, consumer) =>
      messaging.reactTo(topic, consumer),
    ) as EventReactor;
  }

  /** @param name of the consumer, without that of the service */
  inSequence(owner: string, name: string | undefined, place: string): OrderedEvents {
    const { messaging } = this;
    return this.open(owner, name ?? `sequence.${owner}`, { inSequence: true, place }, (topic, consumer) =>
      messaging.inSequence(topic, consumer),
    ) as OrderedEvents;
  }

  private open(
    owner: string,
    name: string,
    asked: Pick<Opened<unknown>, 'inSequence' | 'place'>,
    create: (topic: string, consumer: string) => EventReactor | OrderedEvents,
  ): EventReactor | OrderedEvents {
    const [topic, group] = [`${owner}.events`, `${this.messaging.service}.${name}`];
    const { inSequence, place } = asked;
    const known = this.opened.get(group);
    if (known?.topic === topic && known.inSequence === inSequence) return known.consumer;
    if (known) {
      const first = `${known.place} (${known.topic}, ${orderOf(known)})`;
      const what = `the consumer ${group} is asked for by ${first} and by ${place} (${topic}, ${orderOf(asked)})`;
      throw new Error(`${what}: a consumer reads one topic in one way; give one of them another, { consumer: 'name' }`);
    }
    const consumer = create(topic, group);
    this.opened.set(group, { consumer, topic, inSequence, place });
    return consumer;
  }
}

const orderOf = ({ inSequence }: { readonly inSequence: boolean }): string =>
  inSequence ? 'in sequence' : 'in any order';

import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { eventTopic, type ServiceName } from '@starter/contracts';
import { Messaging, type OrderedHandler } from '@starter/messaging';
import type { Workflow } from './definition/builder.js';
import type { Contract } from './definition/contract-problems.js';
import { EventDeliveries } from './waits/event-deliveries.js';
import { WorkflowRegistry } from './workflow-registry.js';
import { WorkflowStarter } from './workflow-starter.js';

/** An event that workflows start on, or may wait for, or both. */
interface Subscription {
  readonly event: Contract;
  readonly starts: readonly Workflow[];
  readonly isExpected: boolean;
}

/**
 * The events of each topic, in sequence, by one consumer that starts workflows and delivers to those that wait: what follows
 * the starting event finds a workflow that waits for it, however long this service was away (ADR 21).
 */
@Injectable()
export class WorkflowEvents implements OnModuleInit {
  constructor(
    @Inject(WorkflowRegistry) private readonly registry: WorkflowRegistry,
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(WorkflowStarter) private readonly starter: WorkflowStarter,
    @Inject(EventDeliveries) private readonly deliveries: EventDeliveries,
  ) {}

  onModuleInit(): void {
    const { messaging } = this;
    for (const [owner, subscriptions] of Map.groupBy(this.subscriptions(), ({ event }) => event.owner)) {
      const topic = eventTopic(owner as ServiceName);
      // A workflow has no use for what its topic no longer holds: nobody has waited for it.
      const consumer = messaging.inSequence(topic, workflowConsumer(messaging, owner), {
        newKeys: 'from-first-seen',
      });
      for (const subscription of subscriptions) {
        const { event, starts, isExpected } = subscription;
        // An event that does both is taken one at a time per key: the next one may be for the workflow that it starts.
        consumer.on(event, this.handler(subscription), { manyPerKey: !(isExpected && starts.length > 0) });
      }
    }
  }

  private subscriptions(): Subscription[] {
    const { workflows, contracts } = this.registry;
    const starting = workflows.flatMap(({ startsOn }) => (startsOn?.kind === 'event' ? [startsOn] : []));
    const events = new Map([...starting, ...contracts.events].map((event) => [event.type, event]));
    return [...events.values()].map((event) => ({
      event,
      starts: workflows.filter(({ startsOn }) => startsOn?.kind === 'event' && startsOn.type === event.type),
      isExpected: contracts.events.some(({ type }) => type === event.type),
    }));
  }

  /** First it is delivered: a workflow does not wait for the event that starts it. */
  private handler({ event, starts, isExpected }: Subscription): OrderedHandler<unknown> {
    return async (events, tx) => {
      if (isExpected) await this.deliveries.deliver(event, events, tx);
      for (const workflow of starts) await this.starter.startOn(workflow, events);
    };
  }
}

/** The consumer of the events of a service. */
export const workflowConsumer = ({ service }: Pick<Messaging, 'service'>, owner: string): string =>
  `${service}.workflows.${owner}`;

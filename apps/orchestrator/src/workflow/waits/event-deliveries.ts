import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { DeliverEvent, eventTopic, type ServiceName } from '@starter/contracts';
import { causedBy, groupBy, Messaging, toMessage, type OrderedHandler, type Statement } from '@starter/messaging';
import { z } from 'zod';
import type { Contract } from '../definition/contract-problems.js';
import type { Json } from '../definition/definition.js';
import { derivedId } from '../engine/derived-id.js';
import { WorkflowRegistry } from '../workflow-registry.js';

interface Found extends Record<string, unknown> {
  readonly workflow_id: string;
  readonly correlation: string;
  /** Place in the batch, from 1. */
  readonly position: string;
}

// By each field of each event to the waits that have its value; then all that they have must be equal.
const find: Statement = {
  name: 'workflow-wait-find',
  text: `SELECT wait.workflow_id, wait.correlation, event.position
           FROM unnest($2::jsonb[]) WITH ORDINALITY AS event (data, position)
          CROSS JOIN LATERAL jsonb_each(event.data) AS field
           JOIN workflow_wait AS wait
             ON wait.event_type = $1 AND wait.field = field.key AND wait.value_hash = md5(field.value::text)
          WHERE NOT EXISTS (SELECT FROM jsonb_each(wait.match) AS wanted
                             WHERE event.data -> wanted.key IS DISTINCT FROM wanted.value)
          ORDER BY event.position`,
};

/**
 * Hands events to the workflows that expect them: one query for those that come together, and the commands in the transaction
 * that advances the consumer.
 */
@Injectable()
export class EventDeliveries implements OnModuleInit {
  constructor(
    @Inject(WorkflowRegistry) private readonly registry: WorkflowRegistry,
    @Inject(Messaging) private readonly messaging: Messaging,
  ) {}

  onModuleInit(): void {
    for (const [owner, events] of groupBy(this.registry.contracts.events, (event) => event.owner)) {
      const topic = eventTopic(owner as ServiceName);
      const consumer = this.messaging.inSequence(topic, `${this.messaging.service}.waits.${owner}`);
      for (const event of events) consumer.on(event, this.deliver(event), { manyPerKey: true });
    }
  }

  private deliver({ type, schema }: Contract): OrderedHandler<unknown> {
    return async (events, tx) => {
      const { outbox, service: source } = this.messaging;
      const datas = events.map(({ data }) => z.encode(schema, data as never) as Json);
      const found = await tx.query<Found>(find, [type, datas.map((data) => JSON.stringify(data))]);
      const messages = found.flatMap(({ workflow_id: workflowId, correlation, position }) => {
        const index = Number(position) - 1;
        const cause = events[index]?.message;
        if (!cause) return [];
        const draft = DeliverEvent.of({ workflowId, correlation, data: datas[index] as Json });
        const id = derivedId('delivery', workflowId, correlation, cause.id);
        return [toMessage(draft, { source, ...causedBy(cause), id })];
      });
      await outbox.add(
        tx,
        messages.map((message) => ({ channel: 'command', address: message.type, message })),
      );
    };
  }
}

import { Inject, Injectable } from '@nestjs/common';
import { DeliverEvent } from '@starter/contracts';
import {
  causedBy,
  Messaging,
  toMessage,
  type ReceivedEvent,
  type Statement,
  type Transaction,
} from '@starter/messaging';
import { z } from 'zod';
import type { Contract } from '../definition/contract-problems.js';
import type { Json } from '../definition/definition.js';
import { derivedId } from '../engine/derived-id.js';

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

/** Hands events to the workflows that expect them. */
@Injectable()
export class EventDeliveries {
  constructor(@Inject(Messaging) private readonly messaging: Messaging) {}

  /** One query for all of these events of a type; the commands are written in the transaction that advances their consumer. */
  async deliver({ type, schema }: Contract, events: readonly ReceivedEvent[], tx: Transaction): Promise<void> {
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
  }
}

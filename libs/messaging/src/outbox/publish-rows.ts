import { groupBy } from '../group-by.js';
import type { Message } from '../message.js';
import type { CommandTransport } from '../transport/command-transport.js';
import type { EventTransport } from '../transport/event-transport.js';

export interface OutboxRow {
  /** bigint as a decimal string. */
  readonly position: string;
  readonly shard: number;
  readonly channel: 'command' | 'event';
  readonly address: string;
  readonly ordering_key: string;
  readonly message: Message;
  readonly written_at: Date;
}

export interface Published {
  readonly confirmed: OutboxRow[];
  /** Heads that failed; the rows behind them in the same key were not tried. */
  readonly failed: { readonly row: OutboxRow; readonly error: unknown }[];
}

interface Transports {
  readonly commands: CommandTransport;
  readonly events: EventTransport;
}

/** Publishes rows given in order of position; within a key the order is kept and the first failure stops the key. */
export async function publishRows(rows: readonly OutboxRow[], transports: Transports): Promise<Published> {
  const published: Published = { confirmed: [], failed: [] };
  const events = groupBy(
    rows.filter((row) => row.channel === 'event'),
    (row) => row.address,
  );
  const commands = groupBy(
    rows.filter((row) => row.channel === 'command'),
    (row) => row.ordering_key,
  );
  await Promise.all([
    ...[...events].map(([topic, group]) => publishTopic(topic, group, transports.events, published)),
    ...[...commands.values()].map((group) => sendInOrder(group, transports.commands, published)),
  ]);
  return published;
}

/** One request for the whole topic; when it fails, key by key, so that one poisonous message holds up only its own key. */
async function publishTopic(topic: string, rows: OutboxRow[], events: EventTransport, into: Published): Promise<void> {
  try {
    await events.publish(
      topic,
      rows.map((row) => row.message),
    );
    into.confirmed.push(...rows);
  } catch (error) {
    const keys = groupBy(rows, (row) => row.ordering_key);
    if (keys.size === 1 || !events.connected) {
      for (const [head] of keys.values()) if (head) into.failed.push({ row: head, error });
      return;
    }
    for (const group of keys.values()) await publishTopic(topic, group, events, into);
  }
}

async function sendInOrder(rows: OutboxRow[], commands: CommandTransport, into: Published): Promise<void> {
  for (const row of rows) {
    try {
      // What is redriven goes to the queue that it failed in, whatever is bound for its type now.
      const exchange = row.message.redrives ? { exchange: '' } : {};
      await commands.send(row.message, { ...exchange, routingKey: row.address });
      into.confirmed.push(row);
    } catch (error) {
      into.failed.push({ row, error });
      return;
    }
  }
}

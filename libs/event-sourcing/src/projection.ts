import { waves, type DataOf, type MessageDefinition, type Transaction } from '@starter/messaging';
import type { RecordedEvent, Rejection } from './actor.js';

type Write<Data> = (tx: Transaction, events: readonly RecordedEvent<Data>[]) => Promise<Rejection | void>;

interface ProjectionHandler {
  readonly definition: MessageDefinition;
  // A method, so that handlers of any event fit in one map.
  write(tx: Transaction, events: readonly RecordedEvent[]): Promise<Rejection | void>;
}

/**
 * Rows derived from events. A handler gets the events of its type that share a transaction, at most one of each stream, and
 * writes them with one statement. Registered inline (`ActorModule`) it runs in the very transaction that stores the events,
 * and a handler that returns a rejection refuses the command: this is where a rule over many actors, a unique e-mail
 * address, is decided by the database. Registered asynchronously (`ProjectionModule`) it follows the topic, in sequence per
 * stream, and its checkpoint advances in the same transaction as its rows.
 */
export interface Projection {
  /** Part of the consumer group's name of an asynchronous projection: never rename it. */
  readonly name: string;
  readonly handlers: ReadonlyMap<string, ProjectionHandler>;
}

export function defineProjection(name: string, handlers: ReadonlyMap<string, ProjectionHandler>): Projection {
  return { name, handlers };
}

export const project = <D extends MessageDefinition>(definition: D, write: Write<DataOf<D>>): ProjectionHandler => ({
  definition,
  write,
});

/**
 * Runs projections over the events of several streams, in waves: events of different streams share a statement.
 * @returns the first refusal
 */
export async function projectAll(
  tx: Transaction,
  projections: readonly Projection[],
  streams: readonly (readonly RecordedEvent[])[],
): Promise<Rejection | undefined> {
  for (const [type, events] of waves(streams, (event) => event.type)) {
    for (const { handlers } of projections) {
      const refusal = await handlers.get(type)?.write(tx, events);
      if (refusal) return refusal;
    }
  }
  return undefined;
}

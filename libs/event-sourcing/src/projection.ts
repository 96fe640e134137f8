import type { DataOf, MessageDefinition, Transaction } from '@starter/messaging';
import type { RecordedEvent, Rejection } from './actor.js';

type Write<Data> = (tx: Transaction, event: RecordedEvent<Data>) => Promise<Rejection | void>;

interface ProjectionHandler {
  readonly definition: MessageDefinition;
  readonly write: Write<never>;
}

/**
 * Rows derived from events. Registered inline (`ActorModule`) it is written in the very transaction that stores the event,
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
  write: write,
});

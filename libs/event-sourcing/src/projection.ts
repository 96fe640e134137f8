import { TerminalError, waves, type DataOf, type MessageDefinition, type Transaction } from '@starter/messaging';
import type { Actor, RecordedEvent, Rejection } from './actor.js';

type Write<Data> = (tx: Transaction, events: readonly RecordedEvent<Data>[]) => Promise<Rejection | void>;

interface ProjectionHandlerOptions {
  /** It takes several events of a stream at once, in their order; otherwise it gets at most one of each. */
  readonly manyPerStream?: boolean;
}

interface ProjectionHandler extends ProjectionHandlerOptions {
  readonly definition: MessageDefinition;
  /** The data is not even decoded. */
  readonly ignored?: true;
  // A method, so that handlers of any event fit in one map.
  write(tx: Transaction, events: readonly RecordedEvent[]): Promise<Rejection | void>;
}

export interface ProjectionOptions {
  /**
   * The tables that it writes, and nothing else writes: they can be rebuilt from the log. A row may depend only on the events
   * of one stream, because a rebuild keeps no order over streams. Default: none, and it cannot be rebuilt.
   */
  readonly tables?: readonly string[];
  /** What it does with each type of its topic: `on(project(UserRegistered, …), ignore(UserRenamed))`. */
  readonly handlers: ReadonlyMap<string, ProjectionHandler>;
}

/**
 * Rows derived from events. A handler gets the events of its type that share a transaction, at most one of each stream (more,
 * if it says so), and writes them with one statement. Registered inline (`ActorModule`) it runs in the very transaction that stores the events,
 * and a handler that returns a rejection refuses the command: this is where a rule over many actors, a unique e-mail
 * address, is decided by the database. Registered asynchronously (`ProjectionModule`) it follows the topic, in sequence per
 * stream, and its checkpoint advances in the same transaction as its rows. A type that it neither projects nor ignores is a
 * mistake: an inline projection does not start, an asynchronous one holds the stream for a human.
 */
export interface Projection extends ProjectionOptions {
  /** Part of the consumer group's name of an asynchronous projection: never rename it. */
  readonly name: string;
  readonly tables: readonly string[];
  /** Of one that writes what actors are instead of what has happened to them; it has no handlers then. */
  readonly states?: StateWriter;
}

/** An actor that a transaction has changed. */
export interface StateChange<State> {
  readonly stream: string;
  /** Before the transaction; none when it is not known, as in a rebuild. */
  readonly before?: State;
  /** After the last of its decisions. */
  readonly state: State;
}

interface StateWriter {
  readonly actor: Actor<unknown>;
  // A method, so that a projection of any actor fits in a list of projections.
  write(tx: Transaction, changes: readonly StateChange<never>[]): Promise<void>;
}

/**
 * Rows that say what actors are, written in the transaction of their decisions: they are true of the state by construction,
 * whatever event has led there. Inline only. `write` gets each actor once, all that share the transaction together.
 */
export const defineStateProjection = <State>(
  name: string,
  {
    tables,
    actor,
    write,
  }: {
    readonly tables: readonly string[];
    readonly actor: Actor<State>;
    readonly write: (tx: Transaction, changes: readonly StateChange<State>[]) => Promise<void>;
  },
): Projection => ({ name, tables, handlers: new Map(), states: { actor: actor, write } });

export function defineProjection(name: string, { tables = [], handlers }: ProjectionOptions): Projection {
  return { name, tables, handlers };
}

export const project = <D extends MessageDefinition>(
  definition: D,
  write: Write<DataOf<D>>,
  options: ProjectionHandlerOptions = {},
): ProjectionHandler => ({ ...options, definition, write });

/** The name under which an asynchronous projection of a service follows its topic. */
export const consumerOf = (service: string, { name }: Pick<Projection, 'name'>): string => `${service}.${name}`;

/**
 * Runs projections over the events of several streams, in waves: events of different streams share a statement.
 * @returns the first refusal
 */
export async function projectAll(
  tx: Transaction,
  projections: readonly Projection[],
  streams: readonly (readonly RecordedEvent[])[],
): Promise<Rejection | undefined> {
  for (const { handlers } of projections) {
    const mayRepeat = (type: string) => handlers.get(type)?.manyPerStream ?? false;
    for (const [type, events] of waves(streams, (event) => event.type, mayRepeat)) {
      const refusal = await handlers.get(type)?.write(tx, events);
      if (refusal) return refusal;
    }
  }
  return undefined;
}

/** @throws TerminalError: what is stored has happened, whatever a projection says */
export function mustNotRefuse({ name }: Projection, refusal: Rejection | void): void {
  if (refusal) throw new TerminalError(`projection ${name} cannot refuse a stored event: ${refusal.rejected}`);
}

import { decode, errorText, TerminalError, type MessageDefinition, type Transaction } from '@starter/messaging';
import type { Actor } from './actor.js';
import type { Loaded } from './actor-cache.js';
import { evolve } from './decide.js';
import { loadEvents, type StoredEvent } from './event-store.js';
import type { Snapshots } from './snapshots.js';

/** What is stored cannot be right: somebody changed the log by hand, or it was restored in part. Nothing is decided on it. */
export class CorruptStreamError extends TerminalError {}

export const initial = ({ initialState }: Actor<unknown>): Loaded<unknown> => ({ state: initialState, sequence: 0 });

/**
 * The states of these actors by stream, as the log says: `known` states are brought up to date, the others come from their
 * snapshots and the events after those.
 * @throws CorruptStreamError
 */
export async function loadActors(
  tx: Transaction,
  actors: ReadonlyMap<string, Actor<unknown>>,
  known: (stream: string) => Loaded<unknown> | undefined,
  snapshots: Snapshots,
): Promise<Map<string, Loaded<unknown>>> {
  const started = performance.now();
  const strangers = new Map([...actors].filter(([stream]) => known(stream) === undefined));
  const snapshot = await snapshots.load(tx, strangers);
  const states = new Map(
    [...actors].map(([stream, actor]) => [stream, known(stream) ?? snapshot.get(stream) ?? initial(actor)]),
  );
  const positions = [...states].map(([stream, { sequence }]) => ({ stream, sequence }));
  for await (const page of loadEvents(tx, positions)) {
    for (const event of page) {
      const [actor, before] = [actors.get(event.stream), states.get(event.stream)];
      if (actor && before) states.set(event.stream, fold(actor, before, event));
    }
  }
  const loadMs = performance.now() - started;
  for (const [stream, loaded] of states) if (strangers.has(stream)) states.set(stream, { ...loaded, loadMs });
  return states;
}

function fold(actor: Actor<unknown>, before: Loaded<unknown>, event: StoredEvent): Loaded<unknown> {
  const { stream, sequence, type, version } = event;
  if (sequence !== before.sequence + 1) {
    const what = `${stream} has a gap: after sequence ${before.sequence} comes ${sequence}`;
    throw new CorruptStreamError(`${what}; restore the missing events`);
  }
  const handler = actor.evolve.get(type);
  const data = handler && !handler.ignored ? decodeStored(handler.definition) : event.data;
  return { ...before, state: evolve(actor, before.state, { ...event, data }), sequence, eventId: event.id };

  function decodeStored(definition: MessageDefinition): unknown {
    try {
      return decode(definition, event);
    } catch (error) {
      const what = `${stream} holds at sequence ${sequence} a ${type} v${version} that cannot be read`;
      throw new CorruptStreamError(`${what}: ${errorText(error)}; restore the event, or give its version an upcaster`);
    }
  }
}

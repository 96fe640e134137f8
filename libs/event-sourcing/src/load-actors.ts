import { decode, errorText, TerminalError, type MessageDefinition, type Transaction } from '@starter/messaging';
import type { Actor } from './actor.js';
import { refuseArchived } from './archived-stream.js';
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
 * @throws CorruptStreamError, ArchivedStreamError
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
      if (!actor || !before) continue;
      if (before.sequence === 0) await refuseArchived(tx, event);
      states.set(event.stream, fold(actor, before, event));
    }
  }
  const loadMs = performance.now() - started;
  for (const [stream, loaded] of states) if (strangers.has(stream)) states.set(stream, { ...loaded, loadMs });
  return states;
}

/** @throws CorruptStreamError */
export function fold(actor: Actor<unknown>, before: Loaded<unknown>, event: StoredEvent): Loaded<unknown> {
  refuseGap(event, before.sequence);
  const handler = actor.evolve.get(event.type);
  const data = handler && !handler.ignored ? decodeStored(handler.definition, event) : event.data;
  const state = evolve(actor, before.state, { ...event, data });
  return { ...before, state, sequence: event.sequence, eventId: event.id };
}

/** @throws CorruptStreamError unless the event is the next one of its stream */
export function refuseGap({ stream, sequence }: StoredEvent, after: number): void {
  if (sequence === after + 1) return;
  const what = `${stream} has a gap: after sequence ${after} comes ${sequence}`;
  throw new CorruptStreamError(`${what}; restore the missing events`);
}

/** @throws CorruptStreamError */
export function decodeStored<Data>(definition: MessageDefinition<Data>, event: StoredEvent): Data {
  try {
    return decode(definition, event);
  } catch (error) {
    const { stream, sequence, type, version } = event;
    const what = `${stream} holds at sequence ${sequence} a ${type} v${version} that cannot be read`;
    throw new CorruptStreamError(`${what}: ${errorText(error)}; restore the event, or give its version an upcaster`);
  }
}

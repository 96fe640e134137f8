import { inTransaction, silentLogger, type Statement, type Transaction } from '@starter/messaging';
import type { DataSource } from 'typeorm';
import { streamId, type Actor } from './actor.js';
import type { Loaded } from './actor-cache.js';
import { refuseArchived } from './archived-stream.js';
import { loadEvents, type StreamPosition } from './event-store.js';
import { fold, initial } from './load-actors.js';
import { Snapshots } from './snapshots.js';

/** A moment in the life of an actor: after its n-th event, or at an instant. */
export type Moment = { readonly version: number } | { readonly time: Date };

/** An actor as it was. */
export interface PastState<State> {
  readonly state: State;
  /** Sequence of the last event that is in it; 0 = nothing had happened yet. */
  readonly sequence: number;
  /** When that event was recorded. */
  readonly time?: Date;
}

const bounds: Statement = {
  name: 'history-bounds',
  text: `SELECT min(sequence)::int AS first, (min(sequence) FILTER (WHERE recorded_at > $2))::int AS later
           FROM event WHERE stream_id = $1`,
};

/**
 * The state of an actor at a moment of the past, as today's code reads the log; by default now. An instant means all that
 * was recorded before the first later event. It costs a pass over the events up to there: a snapshot is used only where the
 * events before it were archived.
 * @throws ArchivedStreamError when the moment is in what was archived
 * @throws CorruptStreamError
 */
export async function stateAt<State>(
  dataSource: DataSource,
  actor: Actor<State>,
  id: string,
  moment: Moment = { version: Infinity },
): Promise<PastState<State>> {
  const stream = streamId(actor, id);
  const snapshots = new Snapshots(dataSource, silentLogger);
  return inTransaction(dataSource, async (tx) => {
    const time = 'time' in moment ? moment.time : 'infinity';
    const [log] = await tx.query<{ first: number | null; later: number | null }>(bounds, [stream, time]);
    const version = 'version' in moment ? moment.version : log?.later ? log.later - 1 : Infinity;
    let loaded = await beginning(tx, actor, { stream, sequence: log?.first ?? 1 }, version, snapshots);
    let at: Date | undefined;
    const past = () => ({ state: loaded.state as State, sequence: loaded.sequence, ...(at ? { time: at } : {}) });
    // With the last event that is in the state already, for its time.
    for await (const page of loadEvents(tx, [{ stream, sequence: loaded.sequence - 1 }])) {
      for (const event of page) {
        if (event.sequence > version) return past();
        if (event.sequence > loaded.sequence) loaded = fold(actor, loaded, event);
        at = event.time;
      }
    }
    return past();
  });
}

/** The state before the first event that is in the log. */
async function beginning(
  tx: Transaction,
  actor: Actor<unknown>,
  first: StreamPosition,
  version: number,
  snapshots: Snapshots,
): Promise<Loaded<unknown>> {
  if (first.sequence === 1) return initial(actor);
  const snapshot = (await snapshots.load(tx, new Map([[first.stream, actor]]))).get(first.stream);
  if (snapshot && snapshot.sequence <= version) return snapshot;
  await refuseArchived(tx, first);
  return initial(actor);
}

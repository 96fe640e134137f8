import type { DataOf, EventArrived, EventAwaited, EventExpected, EventKept, EventReceived } from '@starter/contracts';
import { List, OrderedSet } from 'immutable';
import type { Json } from '../definition/definition.js';
import { begun, counted, isActive, type StartedWorkflow } from './workflow.state.js';

export const eventExpected = (
  state: StartedWorkflow,
  { correlation, event }: DataOf<typeof EventExpected>,
): StartedWorkflow => ({ ...state, expected: state.expected.set(correlation, event) });

export function eventAwaited(
  state: StartedWorkflow,
  { path, correlation }: DataOf<typeof EventAwaited>,
): StartedWorkflow {
  const awaited = state.awaited.update(correlation, OrderedSet<string>(), (paths) => paths.add(path));
  return begun({ ...state, awaited, waiting: state.waiting.add(path) }, path);
}

export const eventKept = (
  state: StartedWorkflow,
  { correlation, data }: DataOf<typeof EventKept>,
): StartedWorkflow => ({
  ...state,
  kept: state.kept.update(correlation, List<Json>(), (events) => events.push(data)),
});

/** From now on it is for those that wait for it now; a node that begins to wait later waits for another one. */
export function eventArrived(
  state: StartedWorkflow,
  { arrival, correlation, data }: DataOf<typeof EventArrived>,
): StartedWorkflow {
  const waiting = state.awaited
    .get(correlation, OrderedSet<string>())
    .filter((path) => state.waiting.has(path) && isActive(state, path));
  const arrivals = state.arrivals.set(arrival, { correlation, data, waiting });
  return { ...state, arrivals, arrived: arrival, awaited: state.awaited.delete(correlation) };
}

export function eventReceived(
  state: StartedWorkflow,
  { path, correlation, data = null, arrival, kept }: DataOf<typeof EventReceived>,
): StartedWorkflow {
  if (arrival !== undefined) return receivedFrom(state, arrival, path);
  return received(kept ? begun(oldestTaken(state, correlation), path) : state, path, data, correlation);
}

function receivedFrom(state: StartedWorkflow, arrival: number, path: string): StartedWorkflow {
  const known = state.arrivals.get(arrival);
  if (!known) throw new Error(`${path} receives arrival ${arrival}, which has not arrived`);
  const waiting = known.waiting.delete(path);
  const arrivals = waiting.isEmpty()
    ? state.arrivals.delete(arrival)
    : state.arrivals.set(arrival, { ...known, waiting });
  return received({ ...state, arrivals }, path, known.data);
}

function received(next: StartedWorkflow, path: string, data: Json, correlation?: string): StartedWorkflow {
  const [results, ended] = [next.results.set(path, data), next.ended.set(path, 'succeeded')];
  if (correlation === undefined) {
    return counted({ ...next, results, ended, waiting: next.waiting.delete(path) }, path, 'succeeded');
  }
  const awaited = next.awaited.update(correlation, OrderedSet<string>(), (paths) => paths.delete(path));
  return counted({ ...next, results, ended, awaited, waiting: next.waiting.delete(path) }, path, 'succeeded');
}

function oldestTaken(state: StartedWorkflow, correlation: string): StartedWorkflow {
  const left = state.kept.get(correlation, List<Json>()).shift();
  return { ...state, kept: left.isEmpty() ? state.kept.delete(correlation) : state.kept.set(correlation, left) };
}

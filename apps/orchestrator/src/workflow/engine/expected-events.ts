import type { DataOf, EventAwaited, EventExpected, EventKept, EventReceived } from '@starter/contracts';
import { List, OrderedSet } from 'immutable';
import type { Json } from '../definition/definition.js';
import { begun, counted, type StartedWorkflow } from './workflow.state.js';

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

export function eventReceived(
  state: StartedWorkflow,
  { path, correlation, data, kept }: DataOf<typeof EventReceived>,
): StartedWorkflow {
  const next = kept ? begun(oldestTaken(state, correlation), path) : state;
  const [results, ended] = [next.results.set(path, data), next.ended.set(path, 'succeeded')];
  const awaited = next.awaited.update(correlation, OrderedSet<string>(), (paths) => paths.delete(path));
  return counted({ ...next, results, ended, awaited, waiting: next.waiting.delete(path) }, path, 'succeeded');
}

function oldestTaken(state: StartedWorkflow, correlation: string): StartedWorkflow {
  const left = state.kept.get(correlation, List<Json>()).shift();
  return { ...state, kept: left.isEmpty() ? state.kept.delete(correlation) : state.kept.set(correlation, left) };
}

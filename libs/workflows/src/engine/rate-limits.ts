import { LimitRested, TaskDeferred } from '@starter/contracts';
import { portionOf } from '../definition/rate.js';
import { limitOf, rateOf } from './rate-limit-events.js';
import type { Run } from './run.js';
import { timerIdOf, type Timer } from './timers.js';
import { isActive } from './workflow.state.js';

/** Whether a task may be requested now; else it waits for its turn. */
export function mayRequest(run: Run, path: string, attempt: number): boolean {
  const { workflowId, definition, limits } = run.state;
  const limit = limitOf(definition, path);
  if (limit === undefined) return true;
  const inUse = limits.get(limit);
  if (!inUse) beginPortion(run, limit);
  else if (inUse.left === 0 || !inUse.deferred.isEmpty()) {
    if (!inUse.deferred.has(path)) run.emit(TaskDeferred.of({ workflowId, path, attempt, limit }));
    return false;
  }
  return true;
}

/** The time of a portion is over. @returns the tasks whose turn it is, with their attempts */
export function nextPortion(run: Run, timer: Timer & { readonly kind: 'limit' }): [path: string, attempt: number][] {
  const { limit } = timer;
  const { state } = run;
  const inUse = state.limits.get(limit);
  if (inUse?.timerId !== timerIdOf(timer)) return [];
  const next: [string, number][] = [];
  const { size } = portionOf(rateOf(limit));
  for (const deferred of inUse.deferred) {
    if (next.length === size) break;
    const [path] = deferred;
    // What was cancelled is no longer wanted, nor what an earlier attempt has done after all.
    if (isActive(state, path) && !state.results.has(path)) next.push(deferred);
  }
  if (next.length > 0) beginPortion(run, limit);
  else run.emit(LimitRested.of({ workflowId: state.workflowId, limit }));
  return next;
}

function beginPortion(run: Run, limit: string): void {
  const number = run.state.limitTimers + 1;
  run.setTimer({ kind: 'limit', number, limit }, portionOf(rateOf(limit)).everyMs);
}

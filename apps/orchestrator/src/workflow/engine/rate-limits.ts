import { LimitRested, TaskDeferred, type DataOf, type TaskRequested } from '@starter/contracts';
import { OrderedMap } from 'immutable';
import { nodeAt } from '../definition/node-path.js';
import { portionOf } from '../definition/rate.js';
import type { Run } from './run.js';
import { setTimer, timerIdOf, type Timer } from './timers.js';
import { begun, isActive, type StartedWorkflow } from './workflow.state.js';

/** A rate limit that is counted now: a portion of its tasks may be requested until its timer fires. */
export interface LimitInUse {
  readonly timerId: string;
  /** What is left of the portion. */
  readonly left: number;
  /** Attempts of the tasks that wait, by path, first come first; some may have been cancelled since. */
  readonly deferred: OrderedMap<string, number>;
}

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
  setTimer(run, { kind: 'limit', number, limit }, portionOf(rateOf(limit)).everyMs);
}

/** `email.send 100/h` */
function limitOf(definition: StartedWorkflow['definition'], path: string): string | undefined {
  const node = nodeAt(definition, path);
  return node.kind === 'task' && node.rateLimit !== undefined ? `${node.command} ${node.rateLimit}` : undefined;
}

const rateOf = (limit: string): string => limit.slice(limit.indexOf(' ') + 1);

/** How the events change the limits. */
export const limitsAfter = {
  timerSet(state: StartedWorkflow, timerId: string, limit: string): StartedWorkflow {
    const deferred = state.limits.get(limit)?.deferred ?? OrderedMap<string, number>();
    const limits = state.limits.set(limit, { timerId, left: portionOf(rateOf(limit)).size, deferred });
    return { ...state, limits, limitTimers: state.limitTimers + 1 };
  },

  taskDeferred(state: StartedWorkflow, { path, attempt, limit }: DataOf<typeof TaskDeferred>): StartedWorkflow {
    const inUse = state.limits.get(limit);
    if (!inUse) return state;
    const limits = state.limits.set(limit, { ...inUse, deferred: inUse.deferred.set(path, attempt) });
    return begun({ ...state, limits }, path);
  },

  taskRequested(state: StartedWorkflow, { path, purpose }: DataOf<typeof TaskRequested>): StartedWorkflow {
    const limit = purpose === 'run' ? limitOf(state.definition, path) : undefined;
    const inUse = limit === undefined ? undefined : state.limits.get(limit);
    if (limit === undefined || !inUse) return state;
    const next = { ...inUse, left: inUse.left - 1, deferred: inUse.deferred.delete(path) };
    return { ...state, limits: state.limits.set(limit, next) };
  },

  rested: (state: StartedWorkflow, { limit }: DataOf<typeof LimitRested>): StartedWorkflow => ({
    ...state,
    limits: state.limits.delete(limit),
  }),
};

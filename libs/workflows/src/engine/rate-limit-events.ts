import type { DataOf, LimitRested, TaskDeferred, TaskRequested } from '@starter/contracts';
import { OrderedMap } from 'immutable';
import { nodeAt } from '../definition/node-path.js';
import { portionOf } from '../definition/rate.js';
import { begun, type StartedWorkflow } from './workflow.state.js';

/** `email.send 100/h` */
export function limitOf(definition: StartedWorkflow['definition'], path: string): string | undefined {
  const node = nodeAt(definition, path);
  return node.kind === 'task' && node.rateLimit !== undefined ? `${node.command} ${node.rateLimit}` : undefined;
}

export const rateOf = (limit: string): string => limit.slice(limit.indexOf(' ') + 1);

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

import { WorkflowForked, type DataOf, type ForkWorkflow, type StartWorkflow } from '@starter/contracts';
import { childPath, nodesDownTo, placeIn, rootPath } from '../definition/node-path.js';
import { isUndone } from './compensations.js';
import { mayTerminate } from './revocations.js';
import type { Run } from './run.js';
import { branchOf } from './values.js';
import { isActive, nameOf, type StartedWorkflow } from './workflow.state.js';

/** Why an operator cannot cancel this node; undefined when it can be, or when what was only asked to end in it can be terminated. */
export function whyNotCancelled(state: StartedWorkflow, path: string, terminate: boolean): string | undefined {
  const { status, definition } = state;
  if (!exists(definition, path)) return `the definition has no node at ${path}; name one of its steps or groups`;
  if (terminate && !isActive(state, path) && mayTerminate(state, path)) return undefined;
  if (!isActive(state, rootPath)) {
    const what = `the workflow is ${status} and cannot be cancelled any more`;
    return status === 'compensating' ? `${what}; to go on without a compensation, resolve its request` : what;
  }
  if (path === rootPath) return undefined;
  if (!isActive(state, path) || state.results.has(path))
    return `${nameOf(state, path)} has ended; there is nothing to cancel`;
  if (!hasBegun(state, path)) return `${nameOf(state, path)} has not begun; cancel what it is in, or wait until it has`;
  return undefined;
}

type Fork = NonNullable<DataOf<typeof StartWorkflow>['fork']>;

/**
 * What a workflow takes over that goes on at this step of a chain with what the steps before it led to here; a text when it
 * cannot.
 */
export function forkFrom(state: StartedWorkflow, from: string): Fork | string {
  const { status, workflowId: of, definition } = state;
  const place = placeIn(from);
  if (definition.kind !== 'chain' || place?.parent !== rootPath || !(place.index < definition.steps.length)) {
    return `${from} is no step of the chain that the workflow is; name one as ${childPath(rootPath, 1)}`;
  }
  if (status === 'running' || status === 'compensating') {
    return `the workflow is ${status}, and would do those steps twice; wait for its end, or cancel it`;
  }
  if (status === 'stuck') return `the workflow is stuck, and may still undo those steps; unstick it first`;
  if (!isUndone(state.compensations)) return `the workflow still undoes what came late; wait for that`;
  const earlier = Array.from({ length: place.index }, (_, index) => childPath(rootPath, index));
  const open = earlier.find((path) => !hasSucceeded(state, path));
  if (open !== undefined)
    return `${nameOf(state, open)} has not ended well; go on from there, or from a step before it`;
  const isEarlier = (path: string) => earlier.some((step) => path === step || path.startsWith(`${step}.`));
  const undone = state.requests.find(
    ({ path, purpose }) => purpose === 'compensate' && (path === rootPath || isEarlier(path)),
  );
  if (undone && earlier.length > 0) return `${nameOf(state, undone.path)} was undone; start a new workflow instead`;
  return {
    of,
    from,
    results: state.results.filter((_, path) => isEarlier(path)).toObject(),
    branches: state.branches.filter((_, path) => isEarlier(path)).toObject(),
    ended: {
      ...state.ended.filter((_, path) => isEarlier(path)).toObject(),
      ...Object.fromEntries(earlier.map((path) => [path, 'succeeded' as const])),
    },
  };
}

/** Records it, once, if it may be. */
export function recordFork(run: Run, { fork, from }: DataOf<typeof ForkWorkflow>): string | void {
  const { workflowId, forks } = run.state;
  if (forks.some((known) => known.fork === fork)) return;
  const taken = forkFrom(run.state, from);
  if (typeof taken === 'string') return taken;
  run.emit(WorkflowForked.of({ workflowId, fork, from }));
}

/** Of a chain's steps before the one that is asked for it is known that they have. */
function hasSucceeded(state: StartedWorkflow, path: string): boolean {
  const node = nodesDownTo(state.definition, path).at(-1)?.node;
  if (state.ended.has(path)) return state.ended.get(path) === 'succeeded';
  const child = (index: number) => hasSucceeded(state, childPath(path, index));
  switch (node?.kind) {
    case 'task':
    case 'waitForEvent':
      return state.results.has(path);
    case 'chain':
      return node.steps.every((_, index) => child(index));
    case 'when': {
      const branch = branchOf(state, path);
      return branch === undefined || hasSucceeded(state, branch);
    }
    case 'fallback':
      return child(0) || child(1);
    case 'subWorkflow':
      return child(0);
    // Their ends are recorded.
    default:
      return false;
  }
}

/** Whether anything was asked for in this node, or it waits for something. */
function hasBegun(state: StartedWorkflow, path: string): boolean {
  const isInside = (other: string) => other === path || other.startsWith(`${path}.`);
  return (
    state.waiting.some(isInside) ||
    state.groups.some((_, group) => isInside(group)) ||
    state.requests.some((request) => isInside(request.path)) ||
    state.limits.some(({ deferred }) => deferred.some((_, task) => isInside(task)))
  );
}

function exists(definition: StartedWorkflow['definition'], path: string): boolean {
  try {
    return nodesDownTo(definition, path).length > 0;
  } catch {
    return false;
  }
}

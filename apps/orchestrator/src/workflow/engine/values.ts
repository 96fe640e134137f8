import type { Json, WorkflowNode } from '../definition/definition.js';
import { holds } from '../definition/condition.js';
import { defaultLimits } from '../definition/limits.js';
import { anyItem, childPath, nodeAt, nodesDownTo, rootPath, type PlacedNode } from '../definition/node-path.js';
import { BadReferenceError, resolve, type Target, type Values } from '../definition/reference.js';
import type { StartedWorkflow } from './workflow.state.js';

/** The values that references in the node at this path are resolved from. */
export function valuesAt(state: StartedWorkflow, path: string): Values {
  const nodes = nodesDownTo(state.definition, path);
  const above = nodes.slice(0, -1);
  const host = above.findLast(({ node }) => node.kind === 'subWorkflow');
  if (!host) return scopeOf(state, path, { definition: state.definition, base: rootPath, input: () => state.input });
  const { node, path: hostPath } = host as PlacedNode & { node: WorkflowNode & { kind: 'subWorkflow' } };
  return scopeOf(state, path, {
    definition: node.definition,
    base: childPath(hostPath, 0),
    // Put together for each reference: it is the same each time, because what it refers to has ended.
    input: () => resolve(node.input, `${hostPath} subWorkflow`, valuesAt(state, hostPath)),
  });
}

interface Scope {
  readonly definition: WorkflowNode;
  /** Path of its root. */
  readonly base: string;
  readonly input: () => Json;
}

function scopeOf(state: StartedWorkflow, path: string, { definition, base, input }: Scope): Values {
  // A reference reads the place that is nearest: for `*` that is the item in which the node itself is.
  const indexes = path.split('.').slice(base.split('.').length - 1);
  const placeOf = (target: string) => {
    const place = target.split('.').map((segment, index) => (segment === anyItem ? indexes[index] : segment));
    return [base, ...place.slice(1)].join('.');
  };
  const start = (target: Target): Json | undefined => {
    if (target.from === 'input') return input();
    const place = placeOf(target.path);
    if (target.from === 'results') return resultOf(state, place);
    const index = path.split('.')[place.split('.').length];
    return state.groups.get(place)?.items?.[Number(index)];
  };
  return { definition, mostBytes: defaultLimits.eventBytes, start };
}

/** Result of a node that has ended; undefined when it has none yet. */
export function resultOf(state: StartedWorkflow, path: string): Json | undefined {
  const node = nodeAt(state.definition, path);
  switch (node.kind) {
    case 'task':
    case 'waitForEvent':
      return state.results.get(path);
    case 'sleep':
      return null;
    case 'chain':
      return node.steps.length > 0 ? resultOf(state, childPath(path, node.steps.length - 1)) : null;
    case 'group':
    case 'forEach':
      return state.results.get(path);
    case 'subWorkflow':
      return resultOf(state, childPath(path, 0));
    case 'fallback':
      return resultOf(state, childPath(path, state.ended.get(childPath(path, 0)) === 'failed' ? 1 : 0));
    case 'when': {
      const branch = branchOf(state, path);
      return branch === undefined ? null : resultOf(state, branch);
    }
  }
}

/** The results of the members of a group, in their order; `null` for those that failed. */
export function resultsOfMembers(state: StartedWorkflow, path: string): Json[] {
  return Array.from({ length: state.groups.get(path)?.size ?? 0 }, (_, index) => {
    const member = childPath(path, index);
    return state.ended.get(member) === 'failed' ? null : (resultOf(state, member) ?? null);
  });
}

/**
 * The branch that a `when` takes; undefined when it has none for this case.
 * @throws BadReferenceError
 */
export function branchOf(state: StartedWorkflow, path: string): string | undefined {
  const node = nodeAt(state.definition, path);
  if (node.kind !== 'when') throw new Error(`${path} is no when, and has no branches`);
  if (holds(node.condition, `${path} when`, valuesAt(state, path))) return childPath(path, 0);
  return node.otherwise ? childPath(path, 1) : undefined;
}

/**
 * The items of a forEach; undefined for any other node.
 * @throws BadReferenceError
 */
export function itemsOf(state: StartedWorkflow, path: string): readonly Json[] | undefined {
  const node = nodeAt(state.definition, path);
  if (node.kind !== 'forEach') return undefined;
  const place = `${path} forEach.items`;
  const items = resolve(node.items, place, valuesAt(state, path));
  if (!Array.isArray(items)) throw new BadReferenceError(`${place}: is no array; refer to one`);
  return items;
}

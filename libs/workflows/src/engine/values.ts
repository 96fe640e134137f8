import type { Json, WorkflowNode } from '../definition/definition.js';
import { holds } from '../definition/condition.js';
import { anyItem, childPath, nodeAt, nodesDownTo, rootPath } from '../definition/node-path.js';
import { BadReferenceError, resolve, type Target, type Values } from '../definition/reference.js';
import type { StartedWorkflow } from './workflow.state.js';

/** Inputs of sub-workflows that have not begun yet, by path, as far as they are known by now; each is put together once. */
export type InputsAhead = Map<string, Json | undefined>;

/**
 * The values that references in the node at this path are resolved from.
 * @param mostBytes of what is put together
 * @param ahead looks into sub-workflows that have not begun
 */
export function valuesAt(state: StartedWorkflow, path: string, mostBytes: number, ahead?: InputsAhead): Values {
  let found: Values | undefined;
  // Most templates refer to nothing, and need none of it.
  const values = () => (found ??= scopeOf(state, path, mostBytes, scopeAt(state, path, mostBytes, ahead)));
  return {
    mostBytes,
    get definition() {
      return values().definition;
    },
    start: (target) => values().start(target),
  };
}

function scopeAt(state: StartedWorkflow, path: string, mostBytes: number, ahead?: InputsAhead): Scope {
  const above = nodesDownTo(state.definition, path).slice(0, -1);
  const host = above.findLast(({ node }) => node.kind === 'subWorkflow');
  if (host?.node.kind !== 'subWorkflow') {
    return { definition: state.definition, base: rootPath, input: () => state.input };
  }
  return {
    definition: host.node.definition,
    base: childPath(host.path, 0),
    input: () => state.inputs.get(host.path) ?? (ahead && inputAhead(state, host.path, mostBytes, ahead)),
  };
}

function inputAhead(state: StartedWorkflow, path: string, mostBytes: number, ahead: InputsAhead): Json | undefined {
  if (!ahead.has(path)) {
    // Should something in it not be known yet, nobody has to try again.
    ahead.set(path, undefined);
    ahead.set(path, inputOf(state, path, mostBytes, ahead));
  }
  return ahead.get(path);
}

/**
 * What `input` means in a sub-workflow.
 * @throws BadReferenceError
 */
export function inputOf(
  state: StartedWorkflow,
  path: string,
  mostBytes: number,
  ahead?: InputsAhead,
): Record<string, Json> {
  const node = nodeAt(state.definition, path);
  if (node.kind !== 'subWorkflow') throw new Error(`${path} is no subWorkflow, and has no input of its own`);
  const values = valuesAt(state, path, mostBytes, ahead);
  return resolve(node.input, `${path} subWorkflow`, values) as Record<string, Json>;
}

interface Scope {
  readonly definition: WorkflowNode;
  /** Path of its root. */
  readonly base: string;
  readonly input: () => Json | undefined;
}

function scopeOf(state: StartedWorkflow, path: string, mostBytes: number, { definition, base, input }: Scope): Values {
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
  return { definition, mostBytes, start };
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

/** The branch that a `when` has taken; undefined when it had none for its case. */
export function branchOf(state: StartedWorkflow, path: string): string | undefined {
  const branch = state.branches.get(path) ?? undefined;
  return branch === undefined ? undefined : childPath(path, branch);
}

/**
 * The number of the branch that a `when` takes; undefined when it has none for this case.
 * @throws BadReferenceError
 */
export function branchFor(state: StartedWorkflow, path: string, mostBytes: number): number | undefined {
  const node = nodeAt(state.definition, path);
  if (node.kind !== 'when') throw new Error(`${path} is no when, and has no branches`);
  if (holds(node.condition, `${path} when`, valuesAt(state, path, mostBytes))) return 0;
  return node.otherwise ? 1 : undefined;
}

/**
 * The items of a forEach.
 * @throws BadReferenceError
 */
export function itemsOf(state: StartedWorkflow, path: string, mostBytes: number): Json[] {
  const node = nodeAt(state.definition, path);
  if (node.kind !== 'forEach') throw new Error(`${path} is no forEach, and has no items`);
  const place = `${path} forEach.items`;
  const items = resolve(node.items, place, valuesAt(state, path, mostBytes));
  if (!Array.isArray(items)) throw new BadReferenceError(`${place}: is no array; refer to one`);
  return items;
}

import type { WorkflowNode } from './definition.js';

/**
 * Place of a node: `0` is the root, `0.1` its second child, `0.1.0` the first child of that. The body of a forEach is at
 * `*` in references, and at the number of the item when it runs.
 */
export const rootPath = '0';
export const anyItem = '*';

export const childPath = (path: string, index: number | string): string => `${path}.${index}`;

/** The place of a node in its parent; undefined for the root. */
export function placeIn(path: string): { readonly parent: string; readonly index: number } | undefined {
  const dot = path.lastIndexOf('.');
  return dot < 0 ? undefined : { parent: path.slice(0, dot), index: Number(path.slice(dot + 1)) };
}

/** The children of a node; of a forEach its one body. */
export function childrenOf(node: WorkflowNode): readonly WorkflowNode[] {
  switch (node.kind) {
    case 'chain':
      return node.steps;
    case 'group':
      return node.members;
    case 'forEach':
      return [node.body];
    case 'when':
      return node.otherwise ? [node.then, node.otherwise] : [node.then];
    case 'fallback':
      return [node.attempt, node.otherwise];
    case 'subWorkflow':
      return [node.definition];
    case 'task':
    case 'sleep':
    case 'waitForEvent':
      return [];
  }
}

export interface PlacedNode {
  readonly path: string;
  readonly node: WorkflowNode;
}

/**
 * The node at this path and every one above it, outermost first.
 * @throws Error when the definition has no such place
 */
export function nodesDownTo(definition: WorkflowNode, path: string): PlacedNode[] {
  const found: PlacedNode[] = [{ path: rootPath, node: definition }];
  let node: WorkflowNode | undefined = definition;
  let at = rootPath;
  for (const index of path.split('.').slice(1)) {
    node = childAt(node, index);
    if (!node) throw new Error(`the definition has no node at ${path}`);
    at = childPath(at, index);
    found.push({ path: at, node });
  }
  return found;
}

/** @throws Error when the definition has no such place */
export function nodeAt(definition: WorkflowNode, path: string): WorkflowNode {
  let node: WorkflowNode | undefined = definition;
  for (const index of path.split('.').slice(1)) node = node && childAt(node, index);
  if (!node) throw new Error(`the definition has no node at ${path}`);
  return node;
}

export const childAt = (node: WorkflowNode, index: string): WorkflowNode | undefined =>
  node.kind === 'forEach' ? node.body : childrenOf(node)[Number(index)];

/** Every node with its path, parents before their children. */
export const nodesOf = (node: WorkflowNode): Generator<PlacedNode> => walked(node, () => true);

/** Those of the same scope: not what is inside sub-workflows. */
export const nodesInScope = (node: WorkflowNode): Generator<PlacedNode> =>
  walked(node, ({ kind }) => kind !== 'subWorkflow');

/** Without recursion, which would cost each node as many steps as it is deep. */
function* walked(root: WorkflowNode, goesInto: (node: WorkflowNode) => boolean): Generator<PlacedNode> {
  const left: PlacedNode[] = [{ path: rootPath, node: root }];
  for (let placed = left.pop(); placed; placed = left.pop()) {
    yield placed;
    const { path, node } = placed;
    if (!goesInto(node)) continue;
    const children = childrenOf(node);
    for (let index = children.length - 1; index >= 0; index -= 1) {
      const child = children[index] as WorkflowNode;
      left.push({ path: childPath(path, node.kind === 'forEach' ? anyItem : index), node: child });
    }
  }
}

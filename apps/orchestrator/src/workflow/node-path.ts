import type { WorkflowNode } from './definition.js';

/** Place of a node: `0` is the root, `0.1` its second child, `0.1.0` the first child of that. */
export const rootPath = '0';

export const childPath = (path: string, index: number): string => `${path}.${index}`;

/** The place of a node in its parent; undefined for the root. */
export function placeIn(path: string): { readonly parent: string; readonly index: number } | undefined {
  const dot = path.lastIndexOf('.');
  return dot < 0 ? undefined : { parent: path.slice(0, dot), index: Number(path.slice(dot + 1)) };
}

/** The path itself and every path above it, outermost first. */
export function pathsDownTo(path: string): string[] {
  const segments = path.split('.');
  return segments.map((_, index) => segments.slice(0, index + 1).join('.'));
}

export const childrenOf = (node: WorkflowNode): readonly WorkflowNode[] => (node.kind === 'chain' ? node.steps : []);

/** @throws Error when the definition has no such place */
export function nodeAt(definition: WorkflowNode, path: string): WorkflowNode {
  let node: WorkflowNode | undefined = definition;
  for (const index of path.split('.').slice(1)) node = node && childrenOf(node)[Number(index)];
  if (!node) throw new Error(`the definition has no node at ${path}`);
  return node;
}

/** Every node with its path, parents before their children. */
export function* nodesOf(
  node: WorkflowNode,
  path = rootPath,
): Generator<{ readonly path: string; readonly node: WorkflowNode }> {
  yield { path, node };
  for (const [index, child] of childrenOf(node).entries()) yield* nodesOf(child, childPath(path, index));
}

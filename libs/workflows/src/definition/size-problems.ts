import { looksLikeCondition } from './condition.js';
import type { WorkflowLimits } from './limits.js';
import { childPath, rootPath } from './node-path.js';

interface Placed {
  readonly value: unknown;
  readonly path: string;
  readonly depth: number;
}

/** What is too large about a definition, before anybody reads it in earnest: the reader is recursive, and takes its time. */
export function sizeProblems(json: unknown, limits: WorkflowLimits): string[] {
  const left: Placed[] = [{ value: json, path: rootPath, depth: 1 }];
  let nodes = 0;
  for (let placed = left.pop(); placed; placed = left.pop()) {
    const { path, depth } = placed;
    const node = placed.value as Readonly<Record<string, unknown>> | null;
    if (typeof node !== 'object' || node === null) continue;
    nodes += 1;
    if (depth > limits.depth) return [`${path}: nodes are ${depth} deep, and ${limits.depth} are allowed`];
    const children = childrenIn(node);
    if (node['kind'] === 'group' && children.length > limits.members) {
      const what = `${path} group: ${children.length} members, and ${limits.members} are allowed`;
      return [`${what}; split them, or raise the limit`];
    }
    if (nodes + children.length > limits.nodes) return [`${path}: more than ${limits.nodes} nodes; split the workflow`];
    left.push(...children.map((value, index) => ({ value, path: childPath(path, index), depth: depth + 1 })));
    const conditions = conditionsIn(node);
    if (!conditions.every(looksLikeCondition)) {
      return [
        `${path}: a condition has one field: equals or lessThan with two values, all or any with conditions, or not`,
      ];
    }
    if (nodes + conditions.length > limits.nodes) return [`${path}: more than ${limits.nodes} nodes and conditions`];
    left.push(...conditions.map((value) => ({ value, path, depth: depth + 1 })));
  }
  if (isDeeper(json, limits.jsonDepth)) {
    return [`root: values are more than ${limits.jsonDepth} deep inside each other; flatten them`];
  }
  const { length } = JSON.stringify(json) ?? '';
  if (length <= limits.definitionSize) return [];
  return [`root: ${length} characters as JSON, and ${limits.definitionSize} are allowed; pass large values as input`];
}

/** Of a `when`, or of a condition. */
function conditionsIn(node: Readonly<Record<string, unknown>>): unknown[] {
  const { condition, all, any, not } = node;
  const lists = [all, any].flatMap((list): unknown[] => (Array.isArray(list) ? list : []));
  return [...lists, ...[condition, not].filter((one) => one !== undefined)];
}

/** Whatever looks like a child: nothing is known about this JSON yet. */
function childrenIn(node: Readonly<Record<string, unknown>>): unknown[] {
  const lists = [node['steps'], node['members']].flatMap((list): unknown[] => (Array.isArray(list) ? list : []));
  const single = ['body', 'then', 'attempt', 'otherwise', 'definition'].map((key) => node[key]);
  return [...lists, ...single.filter((child) => child !== undefined)];
}

/** Told without recursion, which what is deep enough would exhaust. */
export function isDeeper(json: unknown, limit: number): boolean {
  const left = [{ value: json, depth: 0 }];
  for (let next = left.pop(); next; next = left.pop()) {
    const { value, depth } = next;
    if (typeof value !== 'object' || value === null) continue;
    if (depth >= limit) return true;
    for (const part of Object.values(value) as unknown[]) {
      if (typeof part === 'object' && part !== null) left.push({ value: part, depth: depth + 1 });
    }
  }
  return false;
}

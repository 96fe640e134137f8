import type { Json, WorkflowNode } from './definition.js';
import type { WorkflowLimits } from './limits.js';
import { childPath, childrenOf, rootPath } from './node-path.js';
import { BadReferenceError, resolve, type Values } from './reference.js';

/**
 * Why a workflow with this input would certainly have more members than it may: their numbers are multiplied before the first
 * one begins. What depends on results is not known, and counts when it begins.
 */
export function membersProblem(
  definition: WorkflowNode,
  input: Readonly<Record<string, Json>>,
  { instance, eventBytes }: WorkflowLimits,
): string | undefined {
  const start: Values['start'] = ({ from }) => (from === 'input' ? input : undefined);
  const most = membersIn(definition, rootPath, { definition, mostBytes: eventBytes, start });
  if (most.members <= instance.members) return undefined;
  const what = `${most.path}: the workflow would have ${most.members} members in all`;
  return `${what}, and ${instance.members} are allowed; pass fewer items, or split it`;
}

/** With the place that has most of them. */
interface Members {
  readonly members: number;
  readonly path: string;
}

function membersIn(node: WorkflowNode, path: string, values: Values | undefined): Members {
  const children = childrenOf(node).map((child, index) =>
    membersIn(child, childPath(path, index), node.kind === 'subWorkflow' ? undefined : values),
  );
  const inside = children.reduce((sum, { members }) => sum + members, 0);
  const largest = children.reduce<Members>((one, other) => (other.members > one.members ? other : one), {
    members: 0,
    path,
  });
  switch (node.kind) {
    case 'group':
      return placed(inside + children.length, path, largest);
    case 'forEach':
      return placed(sizeKnown(node.items, path, values) * (1 + inside), path, largest);
    case 'when':
      // Whichever branch it takes.
      return node.otherwise ? least(children, path) : { members: 0, path };
    case 'fallback':
      return children[0] ?? { members: 0, path };
    default:
      return placed(inside, path, largest);
  }
}

const least = (children: readonly Members[], path: string): Members =>
  children.reduce((one, other) => (other.members < one.members ? other : one), children[0] ?? { members: 0, path });

/** A node that has no more than one of those in it says nothing new. */
const placed = (members: number, path: string, largest: Members): Members =>
  members > largest.members ? { members, path } : { members, path: largest.path };

/** 0 = it is not known yet. */
function sizeKnown(items: Json, path: string, values: Values | undefined): number {
  if (Array.isArray(items)) return items.length;
  if (!values) return 0;
  try {
    const known = resolve(items, path, values);
    return Array.isArray(known) ? known.length : 0;
  } catch (error) {
    if (error instanceof BadReferenceError) return 0;
    throw error;
  }
}

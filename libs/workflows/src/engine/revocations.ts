import { TaskRevoked } from '@starter/contracts';
import type { WorkflowNode } from '../definition/definition.js';
import { childAt, childPath, childrenOf, nodeAt } from '../definition/node-path.js';
import { requestIdOf } from './derived-id.js';
import type { Run } from './run.js';
import type { Request, StartedWorkflow } from './workflow.state.js';

/** A node has ended whose tasks may be under way: those that have them are told, so many in this transaction as there is room for. */
export function revokeOpen(run: Run, path: string, reason: string): void {
  const { workflowId, definition } = run.state;
  const terminate = run.terminates ? { terminate: true as const } : {};
  const open = openRequests(run.state, path, nodeAt(definition, path), run.terminates);
  for (const { path: task, requestId, command } of open) {
    if (run.isFull) return run.setTimer({ kind: run.terminates ? 'terminate' : 'revoke', path, next: requestId }, 0);
    run.emit(TaskRevoked.of({ workflowId, path: task, requestId, command, ...terminate, reason }));
  }
}

/** Whether something is under way in a node that was asked to end, and has not been told to end at once. */
export const mayTerminate = (state: StartedWorkflow, path: string): boolean =>
  !openRequests(state, path, nodeAt(state.definition, path), true).next().done;

/**
 * What was asked for in a node and may still happen. Nodes inside that failed earlier were seen to then, unless what was only
 * asked to end is now to end at once.
 */
function* openRequests(
  state: StartedWorkflow,
  path: string,
  node: WorkflowNode,
  terminates: boolean,
): Generator<Request> {
  if (node.kind === 'task') {
    for (let attempt = 1; ; attempt += 1) {
      const request = state.requests.get(requestIdOf(state.workflowId, path, 'run', attempt));
      if (!request) return;
      const told = terminates ? request.terminated : request.revoked;
      if ((request.state === 'requested' || request.state === 'timedOut') && !told) yield request;
    }
  }
  const count = state.groups.get(path)?.begun ?? childrenOf(node).length;
  for (let index = 0; index < count; index += 1) {
    const child = childPath(path, index);
    if (terminates || state.ended.get(child) !== 'failed')
      yield* openRequests(state, child, childAt(node, String(index)) as WorkflowNode, terminates);
  }
}

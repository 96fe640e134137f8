import { TaskRevoked } from '@starter/contracts';
import type { WorkflowNode } from '../definition/definition.js';
import { childAt, childPath, childrenOf, nodeAt } from '../definition/node-path.js';
import { requestIdOf } from './derived-id.js';
import type { Run } from './run.js';
import { setTimer } from './timers.js';
import type { Request, StartedWorkflow } from './workflow.state.js';

/** A node has ended whose tasks may be under way: those that have them are told, so many in this transaction as there is room for. */
export function revokeOpen(run: Run, path: string, reason: string): void {
  const { workflowId, definition } = run.state;
  const terminate = run.terminates ? { terminate: true as const } : {};
  for (const { path: task, requestId, command } of openRequests(run.state, path, nodeAt(definition, path))) {
    if (run.isFull) return setTimer(run, { kind: run.terminates ? 'terminate' : 'revoke', path, next: requestId }, 0);
    run.emit(TaskRevoked.of({ workflowId, path: task, requestId, command, ...terminate, reason }));
  }
}

/** What was asked for in a node and may still happen. Nodes inside that failed earlier were seen to then. */
function* openRequests(state: StartedWorkflow, path: string, node: WorkflowNode): Generator<Request> {
  if (node.kind === 'task') {
    for (let attempt = 1; ; attempt += 1) {
      const request = state.requests.get(requestIdOf(state.workflowId, path, 'run', attempt));
      if (!request) return;
      if ((request.state === 'requested' || request.state === 'timedOut') && !request.revoked) yield request;
    }
  }
  const count = state.groups.get(path)?.begun ?? childrenOf(node).length;
  for (let index = 0; index < count; index += 1) {
    const child = childPath(path, index);
    if (state.ended.get(child) !== 'failed')
      yield* openRequests(state, child, childAt(node, String(index)) as WorkflowNode);
  }
}

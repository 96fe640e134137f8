import type { DataOf, TaskFailed, TaskRequested, TaskSucceeded, WorkflowStarted } from '@starter/contracts';
import { Map } from 'immutable';
import { workflowNode, type Json, type WorkflowNode } from './definition.js';
import { childrenOf, nodeAt, pathsDownTo } from './node-path.js';
import type { Values } from './reference.js';

/** One command that was sent, and what came of it. */
export interface Request {
  /** Order of sending. */
  readonly number: number;
  readonly requestId: string;
  readonly path: string;
  readonly purpose: 'run' | 'compensate';
  readonly command: string;
  readonly state: 'requested' | 'succeeded' | 'failed';
  readonly result?: Json;
  readonly reason?: string;
}

/** Paths of nodes, the one registered last on top. */
export interface Compensations {
  readonly path: string;
  readonly earlier: Compensations | undefined;
}

/** Its maps share their structure from one state to the next, so that an update costs the same however much is in them. */
export interface StartedWorkflow {
  readonly status: 'running' | 'compensating' | 'completed' | 'failed' | 'stuck';
  readonly workflowId: string;
  readonly workflow: string;
  /** Pinned: a deploy of another definition does not reach it. */
  readonly definition: WorkflowNode;
  readonly input: Readonly<Record<string, Json>>;
  readonly requests: Map<string, Request>;
  /** Results of tasks by path. */
  readonly results: Map<string, Json>;
  /** Nodes whose compensation was registered, by path. */
  readonly registered: Map<string, true>;
  /** Compensations that have not begun yet. */
  readonly compensations: Compensations | undefined;
  /** Why it failed or is stuck. */
  readonly reason?: string;
}

export type WorkflowState = { readonly status: 'new' } | StartedWorkflow;

type Data = {
  started: DataOf<typeof WorkflowStarted>;
  requested: DataOf<typeof TaskRequested>;
  succeeded: DataOf<typeof TaskSucceeded>;
  failed: DataOf<typeof TaskFailed>;
};

export const started = ({ workflowId, workflow, definition, input }: Data['started']): StartedWorkflow => ({
  status: 'running',
  workflowId,
  workflow,
  definition: workflowNode.parse(definition),
  input,
  requests: Map(),
  results: Map(),
  registered: Map(),
  compensations: undefined,
});

export function taskRequested(state: StartedWorkflow, data: Data['requested']): StartedWorkflow {
  const { requestId, path, purpose, command } = data;
  const request: Request = { number: state.requests.size, requestId, path, purpose, command, state: 'requested' };
  const next = { ...state, requests: state.requests.set(requestId, request) };
  return purpose === 'run'
    ? registerCompensations(next, path)
    : { ...next, compensations: state.compensations?.earlier };
}

/**
 * A compensation is registered with the first request inside its node, before anything has happened: the outcome of a
 * request may be lost, so what was asked for counts as done. Nodes that never requested anything are not registered.
 */
function registerCompensations(state: StartedWorkflow, path: string): StartedWorkflow {
  let { registered, compensations } = state;
  for (const place of pathsDownTo(path)) {
    if (!nodeAt(state.definition, place).compensateWith || registered.has(place)) continue;
    registered = registered.set(place, true);
    compensations = { path: place, earlier: compensations };
  }
  return { ...state, registered, compensations };
}

export function taskSucceeded(state: StartedWorkflow, data: Data['succeeded']): StartedWorkflow {
  const { requestId, path, purpose, result } = data;
  const settled = settle(state, requestId, { state: 'succeeded', result });
  return purpose === 'run' ? { ...settled, results: state.results.set(path, result) } : settled;
}

export function taskFailed(state: StartedWorkflow, data: Data['failed']): StartedWorkflow {
  const { requestId, path, purpose, reason } = data;
  const settled = settle(state, requestId, { state: 'failed', reason });
  if (purpose === 'compensate') return settled;
  return { ...settled, status: 'compensating', reason: `${nameOf(state, path)} failed: ${reason}` };
}

export const ended = (
  state: StartedWorkflow,
  status: 'completed' | 'failed' | 'stuck',
  reason?: string,
): StartedWorkflow => ({ ...state, status, ...(reason === undefined ? {} : { reason }) });

/** How texts for people call a node: `0.1 email.send`. */
export function nameOf(state: StartedWorkflow, path: string): string {
  const node = nodeAt(state.definition, path);
  return `${path} ${node.kind === 'task' ? node.command : node.kind}`;
}

export const valuesOf = (state: StartedWorkflow): Values => ({
  definition: state.definition,
  input: state.input,
  result: (path) => resultOf(state, path),
});

/** Result of a node that has ended; a chain has that of its last step. */
export function resultOf(state: StartedWorkflow, path: string): Json | undefined {
  const node = nodeAt(state.definition, path);
  if (node.kind === 'task') return state.results.get(path);
  const last = childrenOf(node).length - 1;
  return last < 0 ? null : resultOf(state, `${path}.${last}`);
}

function settle(
  state: StartedWorkflow,
  requestId: string,
  outcome: Pick<Request, 'state' | 'result' | 'reason'>,
): StartedWorkflow {
  const request = state.requests.get(requestId);
  // A task whose input could not be put together was never requested.
  return request ? { ...state, requests: state.requests.set(requestId, { ...request, ...outcome }) } : state;
}

import {
  TaskFailed,
  TaskRequested,
  TaskSucceeded,
  WorkflowCompleted,
  WorkflowFailed,
  WorkflowStuck,
} from '@starter/contracts';
import type { Decision, Rejection } from '@starter/event-sourcing';
import type { CompensationNode, Json } from './definition.js';
import { requestIdOf } from './derived-id.js';
import { childPath, nodeAt, placeIn, rootPath } from './node-path.js';
import { BadReferenceError, resolve } from './reference.js';
import {
  nameOf,
  resultOf,
  taskFailed,
  taskSucceeded,
  valuesOf,
  type Request,
  type StartedWorkflow,
} from './workflow.state.js';

type Events = Exclude<Decision, Rejection>;

/** What happens first. */
export const begin = (state: StartedWorkflow): Events => enter(state, rootPath);

/** What happens when a request has succeeded. */
export function succeed(state: StartedWorkflow, request: Request, result: Json): Events {
  const data = { workflowId: state.workflowId, ...identityOf(request), result };
  const after = taskSucceeded(state, data);
  const next = request.purpose === 'run' ? leave(after, request.path) : compensateNext(after);
  return [TaskSucceeded.of(data), ...next];
}

/** What happens when a request has failed, or could not even be sent. */
export function fail(
  state: StartedWorkflow,
  request: Pick<Request, 'path' | 'purpose' | 'requestId'>,
  reason: string,
): Events {
  const data = { workflowId: state.workflowId, ...identityOf(request), reason };
  const after = taskFailed(state, data);
  const next = request.purpose === 'run' ? compensateNext(after) : stuck(after, request.path, reason);
  return [TaskFailed.of(data), ...next];
}

/** Starts a node. A new kind of node says here what it starts with, and in `leave` what follows each of its children. */
function enter(state: StartedWorkflow, path: string): Events {
  const node = nodeAt(state.definition, path);
  switch (node.kind) {
    case 'task':
      return request(state, path, 'run', node);
    case 'chain':
      return node.steps.length > 0 ? enter(state, childPath(path, 0)) : leave(state, path);
  }
}

/** A node has ended well: its parent goes on. Costs the depth of the tree, however many steps there were before. */
function leave(state: StartedWorkflow, path: string): Events {
  const place = placeIn(path);
  if (!place) {
    return [WorkflowCompleted.of({ workflowId: state.workflowId, result: resultOf(state, rootPath) ?? null })];
  }
  const { parent, index } = place;
  const container = nodeAt(state.definition, parent);
  switch (container.kind) {
    case 'task':
      throw new Error(`${parent} is a task and has no child ${path}`);
    case 'chain':
      return index + 1 < container.steps.length ? enter(state, childPath(parent, index + 1)) : leave(state, parent);
  }
}

/** One compensation after the other, the one registered last first. */
function compensateNext(state: StartedWorkflow): Events {
  const { compensations, workflowId, reason = 'unknown' } = state;
  if (!compensations) return [WorkflowFailed.of({ workflowId, reason })];
  const { path } = compensations;
  const { compensateWith } = nodeAt(state.definition, path);
  if (!compensateWith) throw new Error(`${path} was registered for compensation but has none`);
  return request(state, path, 'compensate', compensateWith);
}

/** The compensations that were still to come stay registered: they are not run on ground that is not known. */
const stuck = (state: StartedWorkflow, path: string, reason: string): Events => [
  WorkflowStuck.of({
    workflowId: state.workflowId,
    reason: `the compensation of ${nameOf(state, path)} failed: ${reason}; it ran because ${state.reason ?? 'unknown'}`,
  }),
];

function request(
  state: StartedWorkflow,
  path: string,
  purpose: Request['purpose'],
  { command, version, key, input }: CompensationNode,
): Events {
  const { workflowId } = state;
  const attempt = 1;
  const identity = { path, purpose, requestId: requestIdOf(workflowId, path, purpose, attempt) };
  try {
    const data = resolve(input, `${path} ${command}`, valuesOf(state)) as Record<string, Json>;
    // A command without a key makes an actor of its own, which has the command's id.
    const subject = key === undefined ? identity.requestId : subjectOf(data[key], `${path} ${command}.${key}`);
    return [TaskRequested.of({ workflowId, ...identity, attempt, command, commandVersion: version, subject, data })];
  } catch (error) {
    if (error instanceof BadReferenceError) return fail(state, identity, error.message);
    throw error;
  }
}

function subjectOf(value: Json | undefined, place: string): string {
  if (typeof value === 'string' || typeof value === 'number') return String(value);
  throw new BadReferenceError(`${place}: names the actor, so it must be a text or a number`);
}

const identityOf = ({ path, purpose, requestId }: Pick<Request, 'path' | 'purpose' | 'requestId'>) => ({
  path,
  purpose,
  requestId,
});

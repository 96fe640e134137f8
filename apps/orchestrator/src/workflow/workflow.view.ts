import { z } from 'zod';
import type { Json } from './definition/definition.js';
import { sizeOf } from './definition/json-size.js';
import { defaultLimits } from './definition/limits.js';
import { rootPath } from './definition/node-path.js';
import { resultOf } from './engine/values.js';
import type { Request, StartedWorkflow, WorkflowState } from './engine/workflow.state.js';
import { workflowStates } from './workflow.row.js';

/** How far each group and forEach has come that has begun. */
const groups = z.array(
  z.object({
    path: z.string(),
    size: z.number(),
    /** Members that have begun, or wait for their rate limit. */
    begun: z.number(),
    succeeded: z.number(),
    failed: z.number(),
  }),
);

/** What `GET /workflows/:id` answers. */
export const workflowView = z.object({
  id: z.uuid(),
  name: z.string(),
  state: z.enum(workflowStates),
  /** Why it failed or is stuck. */
  reason: z.string().optional(),
  input: z.record(z.string(), z.unknown()),
  /** Every command that was sent, in the order of sending. */
  steps: z.array(
    z.object({
      path: z.string(),
      purpose: z.enum(['run', 'compensate']),
      command: z.string(),
      /** Also the id of the command's message. */
      requestId: z.uuid(),
      state: z.enum(['requested', 'succeeded', 'failed', 'timedOut']),
      /** 1 for the first. */
      attempt: z.number(),
      result: z.unknown().optional(),
      reason: z.string().optional(),
      /** The service that has the command was told that it is not needed any more. */
      revoked: z.literal(true).optional(),
      /** … and to end it at once. */
      terminated: z.literal(true).optional(),
      /** An operator has said what came of it. */
      resolved: z.literal(true).optional(),
      requestedAt: z.iso.datetime(),
      /** How long it has been open, in seconds; only of one that nobody has answered. */
      ageSeconds: z.number().optional(),
      /** Only while nobody has answered: the service that has the command says that it waits for an operator. */
      held: z
        .object({
          service: z.string(),
          status: z.enum(['dead-letter', 'redriven']),
          reason: z.string(),
          since: z.iso.datetime(),
        })
        .optional(),
    }),
  ),
  groups,
  /** Results of the tasks by path. */
  results: z.record(z.string(), z.unknown()),
  /** Other workflows that have gone on with what the steps before `from` led to. */
  forks: z.array(z.object({ workflowId: z.uuid(), from: z.string() })),
  startedAt: z.iso.datetime(),
  /** When it was over. */
  endedAt: z.iso.datetime().optional(),
  /** The definition that this run started with. */
  definition: z.record(z.string(), z.unknown()),
});
export type WorkflowView = z.output<typeof workflowView>;

/** What `GET /workflows/:id/result` answers. */
export const workflowResult = z.object({
  id: z.uuid(),
  state: z.enum(workflowStates),
  /** Of one that has completed. */
  result: z.unknown().optional(),
  reason: z.string().optional(),
});
export type WorkflowResult = z.output<typeof workflowResult>;

/** What `GET /workflows/:id/events` tells whenever it has changed. */
export const workflowProgress = z.object({
  id: z.uuid(),
  state: z.enum(workflowStates),
  reason: z.string().optional(),
  /** Commands by what has come of them. */
  requests: z.object({ requested: z.number(), succeeded: z.number(), failed: z.number(), timedOut: z.number() }),
  groups,
});
export type WorkflowProgress = z.output<typeof workflowProgress>;

/** What whoever asks for no more than that gets from the row of a workflow that is over; what is too large is read from its log. */
export interface WorkflowOutcome {
  readonly result?: WorkflowResult;
  readonly progress?: WorkflowProgress;
}
const mostGroups = 1_000;

/** null while it is not over. */
export function outcomeOf(state: WorkflowState): WorkflowOutcome | null {
  if (state.status === 'new' || state.endedAt === undefined) return null;
  const result = resultViewOf(state);
  return {
    ...(sizeOf((result.result ?? null) as Json) <= defaultLimits.eventBytes ? { result } : {}),
    ...(state.groups.size <= mostGroups ? { progress: progressOf(state) } : {}),
  };
}

export function progressOf(state: StartedWorkflow): WorkflowProgress {
  const requests = { requested: 0, succeeded: 0, failed: 0, timedOut: 0 };
  for (const request of state.requests.values()) requests[request.state] += 1;
  return { id: state.workflowId, state: state.status, ...reasonOf(state), requests, groups: groupsOf(state) };
}

export const resultViewOf = (state: StartedWorkflow): WorkflowResult => ({
  id: state.workflowId,
  state: state.status,
  ...(state.status === 'completed' ? { result: resultOf(state, rootPath) ?? null } : {}),
  ...reasonOf(state),
});

export const viewOf = (state: StartedWorkflow): WorkflowView => ({
  id: state.workflowId,
  name: state.workflow,
  state: state.status,
  ...reasonOf(state),
  input: state.input,
  steps: [...state.requests.values()]
    .sort((one, other) => one.number - other.number)
    .map((request) => ({ ...stepOf(request), ...resultOfStep(state, request) })),
  groups: groupsOf(state),
  results: state.results.toObject(),
  forks: state.forks.map(({ fork: workflowId, from }) => ({ workflowId, from })),
  startedAt: new Date(state.startedAt).toISOString(),
  ...(state.endedAt === undefined ? {} : { endedAt: new Date(state.endedAt).toISOString() }),
  definition: state.definition,
});

function resultOfStep({ results }: StartedWorkflow, step: Omit<Request, 'number'>): { readonly result?: Json } {
  if (step.result !== undefined) return { result: step.result };
  const result = step.state === 'succeeded' && step.purpose === 'run' ? results.get(step.path) : undefined;
  return result === undefined ? {} : { result };
}

function stepOf({ number: _, requestedAt, held, ...step }: Request): WorkflowView['steps'][number] {
  const isOpen = step.state === 'requested';
  return {
    ...step,
    requestedAt: new Date(requestedAt).toISOString(),
    ...(isOpen ? { ageSeconds: Math.max(0, Math.round((Date.now() - requestedAt) / 1_000)) } : {}),
    ...(isOpen && held ? { held } : {}),
  };
}

function reasonOf({ status, reason, stuckBecause }: StartedWorkflow): { readonly reason?: string } {
  const current = status === 'stuck' ? stuckBecause : reason;
  return current === undefined ? {} : { reason: current };
}

const groupsOf = (state: StartedWorkflow): WorkflowProgress['groups'] =>
  [...state.groups].map(([path, { size, begun, succeeded, failed }]) => ({ path, size, begun, succeeded, failed }));

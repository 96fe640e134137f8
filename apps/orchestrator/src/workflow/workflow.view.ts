import { z } from 'zod';
import { rootPath } from './definition/node-path.js';
import { resultOf } from './engine/values.js';
import type { StartedWorkflow } from './engine/workflow.state.js';
import { workflowStates } from './workflow.row.js';

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
    }),
  ),
  /** How far each group and forEach has come that has begun. */
  groups: z.array(
    z.object({
      path: z.string(),
      size: z.number(),
      /** Members that have begun, or wait for their rate limit. */
      begun: z.number(),
      succeeded: z.number(),
      failed: z.number(),
    }),
  ),
  /** Results of the tasks by path. */
  results: z.record(z.string(), z.unknown()),
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
    .map(({ number: _, ...step }) => step),
  groups: [...state.groups].map(([path, { size, begun, succeeded, failed }]) => {
    return { path, size, begun, succeeded, failed };
  }),
  results: state.results.toObject(),
  definition: state.definition,
});

function reasonOf({ status, reason, stuckBecause }: StartedWorkflow): { readonly reason?: string } {
  const current = status === 'stuck' ? stuckBecause : reason;
  return current === undefined ? {} : { reason: current };
}

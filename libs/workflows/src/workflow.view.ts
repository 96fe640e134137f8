import { z } from 'zod';
import type { Json } from './definition/definition.js';
import { sizeOf } from './definition/json-size.js';
import { defaultLimits } from './definition/limits.js';
import { rootPath } from './definition/node-path.js';
import { resultOf } from './engine/values.js';
import { workflowStates, type StartedWorkflow, type WorkflowState } from './engine/workflow.state.js';
import { pageOfSteps, resultsBeside, step, stepOf, type StepsPage } from './steps.view.js';
import type { FailedStart } from './failed-starts.js';
import { noWaiting, waiting, type WaitingView } from './waiting.view.js';

const groups = {
  /** How far groups and forEachs have come that have begun; at most 100, those under way first. */
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
  /** How many more there are. */
  moreGroups: z.number().optional(),
};
const mostGroups = 100;

const requests = z.object({ requested: z.number(), succeeded: z.number(), failed: z.number(), timedOut: z.number() });

/** What `GET /workflows/:id` answers. */
export const workflowView = z.object({
  id: z.uuid(),
  name: z.string(),
  state: z.enum(workflowStates),
  /** Why it failed or is stuck. */
  reason: z.string().optional(),
  input: z.record(z.string(), z.unknown()),
  /** Commands that were sent, in the order of sending: those of this page. */
  steps: z.array(step),
  /** Pass it as `after` to get the steps that follow; absent on the last page. */
  next: z.string().optional(),
  /** Commands by what has come of them. */
  requests,
  ...groups,
  ...waiting,
  /** Results by path: while there are at most 100 of them and 1 MB together all, else those of the steps on this page. */
  results: z.record(z.string(), z.unknown()),
  /** Other workflows that have gone on with what the steps before `from` led to; the 100 latest. */
  forks: z.array(z.object({ workflowId: z.uuid(), from: z.string() })),
  startedAt: z.iso.datetime(),
  /** When it was over. */
  endedAt: z.iso.datetime().optional(),
  /** The definition that this run started with. */
  definition: z.record(z.string(), z.unknown()),
});
export type WorkflowView = z.output<typeof workflowView>;

/** `notStarted`: a message that was to start it has failed, and `GET /workflows/:id` says where and what to do. */
const anyState = z.enum([...workflowStates, 'notStarted']);

/** What `GET /workflows/:id/result` answers. */
export const workflowResult = z.object({
  id: z.uuid(),
  state: anyState,
  /** Of one that has completed. */
  result: z.unknown().optional(),
  reason: z.string().optional(),
});
export type WorkflowResult = z.output<typeof workflowResult>;

/** What `GET /workflows/:id/events` tells whenever it has changed. */
export const workflowProgress = z.object({
  id: z.uuid(),
  state: anyState,
  reason: z.string().optional(),
  /** Commands by what has come of them. */
  requests,
  ...groups,
});
export type WorkflowProgress = z.output<typeof workflowProgress>;

/** What whoever asks for no more than that gets from the row of a workflow that is over; what is too large is read from its log. */
export interface WorkflowOutcome {
  readonly result?: WorkflowResult;
  readonly progress: WorkflowProgress;
}

/** null while it is not over. */
export function outcomeOf(state: WorkflowState): WorkflowOutcome | null {
  if (state.status === 'new' || state.endedAt === undefined) return null;
  const result = resultViewOf(state);
  return {
    ...(sizeOf((result.result ?? null) as Json) <= defaultLimits.eventBytes ? { result } : {}),
    progress: progressOf(state),
  };
}

export const progressOf = (state: StartedWorkflow): WorkflowProgress => ({
  id: state.workflowId,
  state: state.status,
  ...reasonOf(state),
  requests: countsOf(state),
  ...groupsOf(state),
});

/** Of one whose start has failed. */
export const noProgress = ({ id, state, reason }: FailedStart): WorkflowProgress => ({
  ...{ id, state, reason },
  requests: { requested: 0, succeeded: 0, failed: 0, timedOut: 0 },
  groups: [],
});

export const resultViewOf = (state: StartedWorkflow): WorkflowResult => ({
  id: state.workflowId,
  state: state.status,
  ...(state.status === 'completed' ? { result: resultOf(state, rootPath) ?? null } : {}),
  ...reasonOf(state),
});

export const viewOf = (
  state: StartedWorkflow,
  page: StepsPage = pageOfSteps(state, { limit: 100 }),
  { deadlines, ...waiting }: WaitingView = noWaiting,
): WorkflowView => ({
  id: state.workflowId,
  name: state.workflow,
  state: state.status,
  ...reasonOf(state),
  input: state.input,
  steps: page.requests.map((request) => stepOf(state, request, deadlines.get(request.requestId))),
  ...(page.next === undefined ? {} : { next: String(page.next) }),
  requests: countsOf(state),
  ...groupsOf(state),
  ...waiting,
  results: resultsBeside(state, page, mostResults),
  forks: state.forks.slice(-mostForks).map(({ fork: workflowId, from }) => ({ workflowId, from })),
  startedAt: new Date(state.startedAt).toISOString(),
  ...(state.endedAt === undefined ? {} : { endedAt: new Date(state.endedAt).toISOString() }),
  definition: state.definition,
});
const mostResults = 100;
const mostForks = 100;

function countsOf({ requests }: StartedWorkflow): WorkflowProgress['requests'] {
  const counts = { requested: 0, succeeded: 0, failed: 0, timedOut: 0 };
  for (const { state } of requests.values()) counts[state] += 1;
  return counts;
}

function reasonOf({ status, reason, stuckBecause }: StartedWorkflow): { readonly reason?: string } {
  const current = status === 'stuck' ? stuckBecause : reason;
  return current === undefined ? {} : { reason: current };
}

function groupsOf({ groups, ended }: StartedWorkflow): Pick<WorkflowProgress, 'groups' | 'moreGroups'> {
  const [over, underWay] = [...groups.keys()].reduce<[string[], string[]]>(
    (parts, path) => (parts[ended.has(path) ? 0 : 1].push(path), parts),
    [[], []],
  );
  const shown = [...underWay, ...over].slice(0, mostGroups);
  const more = groups.size - shown.length;
  return {
    groups: shown.flatMap((path) => {
      const group = groups.get(path);
      if (!group) return [];
      const { size, begun, succeeded, failed } = group;
      return [{ path, size, begun, succeeded, failed }];
    }),
    ...(more > 0 ? { moreGroups: more } : {}),
  };
}

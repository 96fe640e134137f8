import {
  StartWorkflow,
  TaskFailed,
  TaskRequested,
  TaskSucceeded,
  WorkflowCompleted,
  WorkflowFailed,
  WorkflowStarted,
  WorkflowStuck,
  workflowReplies,
  type DataOf,
} from '@starter/contracts';
import {
  apply,
  CommandFailed,
  CommandSucceeded,
  defineActor,
  handle,
  on,
  reject,
  type Decision,
  type OutgoingCommand,
  type RecordedEvent,
} from '@starter/event-sourcing';
import { problemsOf } from './check-definition.js';
import { workflowNode } from './definition.js';
import { begin, fail, succeed } from './progress.js';
import {
  ended,
  started,
  taskFailed,
  taskRequested,
  taskSucceeded,
  type Request,
  type StartedWorkflow,
  type WorkflowState,
} from './workflow.state.js';

/**
 * One run of a workflow: an outcome comes in, the next command goes out. It needs no registry of definitions, because the
 * command that starts it carries the definition; so the same command and state give the same decision in every release.
 */
export const workflowInstance = defineActor<WorkflowState>('workflow', {
  initialState: { status: 'new' },
  decide: on(
    handle(StartWorkflow, ({ data }, state) => (state.status === 'new' ? start(data) : [])),
    handle(CommandSucceeded, ({ data, message }, state) =>
      settle(state, message.subject, data.requestId, (workflow, request) => succeed(workflow, request, data.result)),
    ),
    handle(CommandFailed, ({ data, message }, state) =>
      settle(state, message.subject, data.requestId, (workflow, request) => fail(workflow, request, data.reason)),
    ),
  ),
  evolve: on(
    apply(WorkflowStarted, (_, { data }) => started(data)),
    apply(TaskRequested, (state, { data }) => taskRequested(running(state), data)),
    apply(TaskSucceeded, (state, { data }) => taskSucceeded(running(state), data)),
    apply(TaskFailed, (state, { data }) => taskFailed(running(state), data)),
    apply(WorkflowCompleted, (state) => ended(running(state), 'completed')),
    apply(WorkflowFailed, (state, { data }) => ended(running(state), 'failed', data.reason)),
    apply(WorkflowStuck, (state, { data }) => ended(running(state), 'stuck', data.reason)),
  ),
  outgoing,
});

function start(data: DataOf<typeof StartWorkflow>): Decision {
  const parsed = workflowNode.safeParse(data.definition);
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    return reject(`the definition is not one: ${issue?.path.join('.') || 'root'}: ${issue?.message}; see the schema`);
  }
  const problems = problemsOf(parsed.data);
  if (problems.length > 0) return reject(`the definition cannot run: ${problems.join('; ')}`);
  return [WorkflowStarted.of(data), ...begin(started(data))];
}

/** A reply counts once, and only for a request that is open; late and repeated ones change nothing. */
function settle(
  state: WorkflowState,
  workflowId: string | undefined,
  requestId: string,
  then: (state: StartedWorkflow, request: Request) => Decision,
): Decision {
  if (state.status === 'new') return reject(`there is no workflow ${workflowId}: nobody waits for this reply`);
  const request = state.requests.get(requestId);
  if (!request) return reject(`workflow ${workflowId} never sent request ${requestId}: nobody waits for this reply`);
  return request.state === 'requested' ? then(state, request) : [];
}

function running(state: WorkflowState): StartedWorkflow {
  if (state.status === 'new') throw new Error('the first event of a workflow must be workflow.started');
  return state;
}

function outgoing({ type, data }: RecordedEvent): OutgoingCommand[] {
  if (type !== TaskRequested.type) return [];
  const { workflowId, requestId, command, commandVersion, subject, data: input } = data as DataOf<typeof TaskRequested>;
  const replyTo = { address: workflowReplies, subject: workflowId };
  return [{ type: command, version: commandVersion, id: requestId, data: input, subject, replyTo }];
}

import { z } from 'zod';
import { defineCommand, defineEvent } from './definition.js';
import { json } from './json.js';

const owner = 'orchestrator';
const workflowId = z.uuid();
const input = z.record(z.string(), json);
/**
 * Place of a node in the definition's tree: `0` is the root, `0.1` its second child. In a forEach the number is that of the
 * item.
 */
const path = z.string();

/** Whether a request does a task or undoes it. */
const purpose = z.enum(['run', 'compensate']);
const request = { workflowId, path, purpose, requestId: z.uuid() };

/** Where services send the replies to a workflow's commands; a routing key of the `commands` exchange. */
export const workflowReplies = 'orchestrator.replies';

const outcome = z.enum(['succeeded', 'failed', 'cancelled']);

/** What a workflow takes over from another that had the same definition and input: the steps before `from`, as they ended there. */
const fork = z.object({
  of: z.uuid(),
  /** A step of the chain that is the whole workflow: `0.2`. */
  from: path,
  results: z.record(path, json),
  ended: z.record(path, outcome),
  /** Which child each `when` took; null = it had none for its case. */
  branches: z.record(path, z.int().min(0).nullable()).exactOptional(),
});

/**
 * Carries the whole definition, not only its name: what was accepted is what runs, even when the orchestrator is deployed
 * anew before the command arrives. Who knows only the name uses `POST /workflows`.
 */
export const StartWorkflow = defineCommand('workflow.start', {
  version: 1,
  owner,
  key: 'workflowId',
  schema: z.object({
    workflowId,
    workflow: z.string().min(1),
    definition: json,
    input,
    fork: fork.exactOptional(),
  }),
});

/** A timer that a `TimerSet` asked for is due. */
export const TimerFired = defineCommand('workflow.timer-fired', {
  version: 1,
  owner,
  key: 'workflowId',
  schema: z.object({ workflowId, timerId: z.string().min(1) }),
});

/** Names a kind of event and values of its data: the same for the same, within a workflow. */
const correlation = z.uuid();

/** An event has arrived that the workflow expects. */
export const DeliverEvent = defineCommand('workflow.deliver-event', {
  version: 1,
  owner,
  key: 'workflowId',
  schema: z.object({ workflowId, correlation, data: json }),
});

/** Ends it as if it had failed: what can be undone is undone. With a path only that node, which must have begun: what it is in goes on as it does after a failure. */
export const CancelWorkflow = defineCommand('workflow.cancel', {
  version: 1,
  owner,
  key: 'workflowId',
  schema: z.object({
    workflowId,
    reason: z.string().min(1),
    path: path.exactOptional(),
    /** Tasks that are under way end at once, and nothing that they still do is committed. Default: they are asked to end. */
    terminate: z.boolean().exactOptional(),
  }),
});

/** What an operator says about a compensation that is stuck. */
const remedy = z.enum([
  /** Try it again, with all of its attempts. */
  'retry',
  /** It stays as it is; go on with the others. */
  'skip',
  /** It was undone by hand; go on with the others. */
  'resume',
]);

export const UnstickWorkflow = defineCommand('workflow.unstick', {
  version: 1,
  owner,
  key: 'workflowId',
  /** It names the place, so that said twice it does not meet the next one. */
  schema: z.object({ workflowId, path, remedy }),
});

/**
 * What an operator says about a request that nobody has answered, of a task or of a compensation: its command is a dead letter, was
 * lost, or was carried out by hand. Or about the last request of a compensation that is stuck.
 */
export const ResolveRequest = defineCommand('workflow.resolve-request', {
  version: 1,
  owner,
  key: 'workflowId',
  schema: z.object({
    workflowId,
    requestId: z.uuid(),
    remedy: z.enum([
      /** It was carried out, with this result. */
      'succeed',
      /** It was not, and is not tried again. A compensation is stuck. */
      'fail',
      /** Ask once more. */
      'retry',
      /** Go on without it. The result of a task is `null`. */
      'skip',
    ]),
    result: json.exactOptional(),
    reason: z.string().min(1).exactOptional(),
  }),
});

/** Another workflow goes on at this step with what those before it led to: to be recorded, if that may be. */
export const ForkWorkflow = defineCommand('workflow.fork', {
  version: 1,
  owner,
  key: 'workflowId',
  schema: z.object({ workflowId, fork: z.uuid(), from: path }),
});

/** Pins the definition: a later deploy does not change a workflow that is under way. */
export const WorkflowStarted = defineEvent('workflow.started', {
  version: 1,
  owner,
  schema: z.object({ workflowId, workflow: z.string(), definition: json, input, fork: fork.exactOptional() }),
});

export const TaskRequested = defineEvent('workflow.task-requested', {
  version: 1,
  owner,
  schema: z.object({
    ...request,
    /** 1 for the first; each attempt is a request of its own. */
    attempt: z.int().min(1),
    command: z.string(),
    commandVersion: z.int().min(1),
    /** The actor that the command is for. */
    subject: z.string(),
    data: json,
  }),
});

/** Names the tasks of a workflow that share a rate limit. */
const limit = z.string();

/** The limit has been reached: it is requested when it is its turn. */
export const TaskDeferred = defineEvent('workflow.task-deferred', {
  version: 1,
  owner,
  schema: z.object({ workflowId, path, attempt: z.int().min(1), limit }),
});

/** Nothing had to wait when the time of the limit was over: the next task is requested at once. */
export const LimitRested = defineEvent('workflow.limit-rested', {
  version: 1,
  owner,
  schema: z.object({ workflowId, limit }),
});

/** The workflow does not need it any more: whoever has the command is told so. */
export const TaskRevoked = defineEvent('workflow.task-revoked', {
  version: 1,
  owner,
  schema: z.object({
    workflowId,
    path,
    requestId: z.uuid(),
    command: z.string(),
    terminate: z.literal(true).exactOptional(),
    reason: z.string(),
  }),
});

/** Nobody had waited for it any more: the attempt had timed out, or its node was cancelled. */
const late = z.literal(true).exactOptional();

/** Said by an operator, not by the service that has the command: what was asked for may still happen. */
const resolved = z.literal(true).exactOptional();

/** Why another attempt would fail as well. */
const hopeless = z.enum(['rejected', 'invalid', 'discarded']);

export const TaskSucceeded = defineEvent('workflow.task-succeeded', {
  version: 1,
  owner,
  schema: z.object({ ...request, result: json, late, resolved }),
});

/** Without a `TaskRequested` before it: the input could not be put together, and nothing was sent. */
export const TaskFailed = defineEvent('workflow.task-failed', {
  version: 1,
  owner,
  schema: z.object({
    ...request,
    reason: z.string(),
    hopeless: hopeless.exactOptional(),
    /** Nobody has answered: what was asked for may still happen. */
    timedOut: z.literal(true).exactOptional(),
    /** Another attempt follows. */
    retried: z.literal(true).exactOptional(),
    late,
    resolved,
  }),
});

/** A group or forEach has begun; its members follow. What was evaluated is recorded, here and below: a replay evaluates nothing. */
export const GroupStarted = defineEvent('workflow.group-started', {
  version: 1,
  owner,
  schema: z.object({
    workflowId,
    path,
    size: z.int().min(0),
    /** Of a forEach, one for each member. */
    items: z.array(json).exactOptional(),
  }),
});

/** A `when` has looked at its condition. */
export const BranchTaken = defineEvent('workflow.branch-taken', {
  version: 1,
  owner,
  schema: z.object({
    workflowId,
    path,
    /** Number of the child that follows; none = there is none for this case, and it has ended. */
    branch: z.int().min(0).exactOptional(),
  }),
});

/** A sub-workflow has begun; this is what `input` means in it. */
export const SubWorkflowStarted = defineEvent('workflow.sub-workflow-started', {
  version: 1,
  owner,
  schema: z.object({ workflowId, path, input }),
});

/**
 * A node other than a task has ended: every one that failed, and of those that succeeded every group, what has a timeout, and
 * what is a member of a group. A task ends with its `TaskSucceeded` or its last `TaskFailed`. What has not ended when a node
 * above it does is cancelled.
 */
export const NodeEnded = defineEvent('workflow.node-ended', {
  version: 1,
  owner,
  schema: z.object({
    workflowId,
    path,
    outcome,
    reason: z.string().exactOptional(),
  }),
});

/** A `TimerFired` is to come so long after this event. */
export const TimerSet = defineEvent('workflow.timer-set', {
  version: 1,
  owner,
  schema: z.object({
    workflowId,
    /** Unique in the workflow. */
    timerId: z.string(),
    path,
    delayMs: z.int().min(0),
  }),
});

/** From here on events of this type whose data has these values are delivered to the workflow. */
export const EventExpected = defineEvent('workflow.event-expected', {
  version: 1,
  owner,
  schema: z.object({ workflowId, correlation, event: z.string(), match: input }),
});

/** The node waits for the next of them. */
export const EventAwaited = defineEvent('workflow.event-awaited', {
  version: 1,
  owner,
  schema: z.object({ workflowId, path, correlation }),
});

/** One has come while no node waited; it is kept for the next that will. */
export const EventKept = defineEvent('workflow.event-kept', {
  version: 1,
  owner,
  schema: z.object({ workflowId, correlation, data: json }),
});

/** One has come for several nodes that wait: it is for these and no others, and each of them receives it in its turn. */
export const EventArrived = defineEvent('workflow.event-arrived', {
  version: 1,
  owner,
  schema: z.object({ workflowId, arrival: z.int().min(1), correlation, data: json }),
});

/** The node has got what it waited for. */
export const EventReceived = defineEvent('workflow.event-received', {
  version: 1,
  owner,
  schema: z.object({
    workflowId,
    path,
    correlation,
    /** None = that of the arrival. */
    data: json.exactOptional(),
    /** The `EventArrived` that it is from. */
    arrival: z.int().min(1).exactOptional(),
    /** It was the oldest that had been kept. */
    kept: z.literal(true).exactOptional(),
  }),
});

/** The service that has the command says that it waits for an operator as a dead letter, or that it was sent to its handler again. */
export const TaskHeld = defineEvent('workflow.task-held', {
  version: 1,
  owner,
  schema: z.object({
    ...request,
    service: z.string(),
    status: z.enum(['dead-letter', 'redriven']),
    reason: z.string(),
    since: z.iso.datetime(),
  }),
});

/** Another workflow has taken over what the steps before `from` led to. */
export const WorkflowForked = defineEvent('workflow.forked', {
  version: 1,
  owner,
  schema: z.object({ workflowId, fork: z.uuid(), from: path }),
});

export const WorkflowCompleted = defineEvent('workflow.completed', {
  version: 1,
  owner,
  schema: z.object({
    workflowId,
    /** None = it is larger than an event may be: the results that it is made of are in the events before. */
    result: json.exactOptional(),
  }),
});

/** It failed, and everything that it had done and that can be undone was undone. */
export const WorkflowFailed = defineEvent('workflow.failed', {
  version: 1,
  owner,
  schema: z.object({ workflowId, reason: z.string() }),
});

/** Compensations failed, and no other can move: an operator has to look, and to send `UnstickWorkflow` or `ResolveRequest`. */
export const WorkflowStuck = defineEvent('workflow.stuck', {
  version: 1,
  owner,
  schema: z.object({
    workflowId,
    /** Of the one that failed first; the reason names the others. */
    path,
    reason: z.string(),
  }),
});

export const WorkflowUnstuck = defineEvent('workflow.unstuck', {
  version: 1,
  owner,
  schema: z.object({ workflowId, path, remedy }),
});

import { z } from 'zod';
import { defineCommand, defineEvent } from './definition.js';

const owner = 'orchestrator';
const workflowId = z.uuid();
const input = z.record(z.string(), z.json());
/** Place of a node in the definition's tree: `0` is the root, `0.1` its second child. */
const path = z.string();

/** Whether a request does a task or undoes it. */
const purpose = z.enum(['run', 'compensate']);
const request = { workflowId, path, purpose, requestId: z.uuid() };

/** Where services send the replies to a workflow's commands; a routing key of the `commands` exchange. */
export const workflowReplies = 'orchestrator.replies';

/**
 * Carries the whole definition, not only its name: what was accepted is what runs, even when the orchestrator is deployed
 * anew before the command arrives. Who knows only the name uses `POST /workflows`.
 */
export const StartWorkflow = defineCommand('workflow.start', {
  version: 1,
  owner,
  key: 'workflowId',
  schema: z.object({ workflowId, workflow: z.string().min(1), definition: z.json(), input }),
});

/** Pins the definition: a later deploy does not change a workflow that is under way. */
export const WorkflowStarted = defineEvent('workflow.started', {
  version: 1,
  owner,
  schema: z.object({ workflowId, workflow: z.string(), definition: z.json(), input }),
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
    data: z.json(),
  }),
});

export const TaskSucceeded = defineEvent('workflow.task-succeeded', {
  version: 1,
  owner,
  schema: z.object({ ...request, result: z.json() }),
});

/** Without a `TaskRequested` before it: the input could not be put together, and nothing was sent. */
export const TaskFailed = defineEvent('workflow.task-failed', {
  version: 1,
  owner,
  schema: z.object({ ...request, reason: z.string() }),
});

export const WorkflowCompleted = defineEvent('workflow.completed', {
  version: 1,
  owner,
  schema: z.object({ workflowId, result: z.json() }),
});

/** It failed, and everything that it had done and that can be undone was undone. */
export const WorkflowFailed = defineEvent('workflow.failed', {
  version: 1,
  owner,
  schema: z.object({ workflowId, reason: z.string() }),
});

/** A compensation failed: an operator has to look. */
export const WorkflowStuck = defineEvent('workflow.stuck', {
  version: 1,
  owner,
  schema: z.object({ workflowId, reason: z.string() }),
});

import { z } from 'zod';
import { defineCommand, defineEvent } from './definition.js';

const owner = 'orchestrator';
const workflowId = z.uuid();
/** Place of a task in the definition's tree: `0.1` is the second child of the first child of the root. */
const path = z.string();

/** Where services send the replies to a workflow's commands; a routing key of the `commands` exchange. */
export const workflowReplies = 'orchestrator.replies';

export const StartWorkflow = defineCommand('workflow.start', {
  version: 1,
  owner,
  key: 'workflowId',
  schema: z.object({ workflowId, workflow: z.string().min(1), input: z.record(z.string(), z.json()) }),
});

/** Pins the definition: a later deploy does not change a workflow that is under way. */
export const WorkflowStarted = defineEvent('workflow.started', {
  version: 1,
  owner,
  schema: z.object({
    workflowId,
    workflow: z.string(),
    definition: z.json(),
    input: z.record(z.string(), z.json()),
  }),
});

export const TaskRequested = defineEvent('workflow.task-requested', {
  version: 1,
  owner,
  schema: z.object({
    workflowId,
    path,
    /** Whether it does the task or undoes it. */
    purpose: z.enum(['run', 'compensate']),
    requestId: z.uuid(),
    command: z.string(),
    commandVersion: z.int().min(1),
    data: z.json(),
  }),
});

export const TaskSucceeded = defineEvent('workflow.task-succeeded', {
  version: 1,
  owner,
  schema: z.object({ workflowId, path, requestId: z.uuid(), result: z.json() }),
});

export const TaskFailed = defineEvent('workflow.task-failed', {
  version: 1,
  owner,
  schema: z.object({ workflowId, path, requestId: z.uuid(), reason: z.string() }),
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

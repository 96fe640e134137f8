import {
  EventAwaited,
  EventExpected,
  EventKept,
  EventReceived,
  GroupStarted,
  LimitRested,
  NodeEnded,
  TaskDeferred,
  TaskFailed,
  TaskRequested,
  TaskRevoked,
  TaskSucceeded,
  TimerSet,
  WorkflowCompleted,
  WorkflowFailed,
  WorkflowStarted,
  WorkflowStuck,
  WorkflowUnstuck,
} from '@starter/contracts';
import { defineProjection, ignore, on, project, type RecordedEvent } from '@starter/event-sourcing';
import type { Statement, Transaction } from '@starter/messaging';
import type { WorkflowRow } from './workflow.row.js';

const insert: Statement = {
  name: 'workflow-directory-insert',
  text: `INSERT INTO workflow_directory (workflow_id, name, state, started_at, updated_at)
         SELECT id, name, 'running', at, at
           FROM unnest($1::uuid[], $2::text[], $3::timestamptz[]) AS new (id, name, at)`,
};
const setState: Statement = {
  name: 'workflow-directory-state',
  text: `UPDATE workflow_directory SET state = $1, updated_at = new.at
           FROM unnest($2::uuid[], $3::timestamptz[]) AS new (id, at) WHERE workflow_id = new.id AND state <> $1`,
};

/** Inline: a list never lags behind what `GET /workflows/:id` says. One write when a workflow starts and one per change. */
export const workflowDirectory = defineProjection('workflow-directory', {
  tables: ['workflow_directory'],
  handlers: on(
    project(WorkflowStarted, async (tx, events) => {
      await tx.query(insert, [
        events.map(({ data }) => data.workflowId),
        events.map(({ data }) => data.workflow),
        events.map(({ time }) => time),
      ]);
    }),
    project(TaskRequested, async (tx, events) => {
      const compensating = events.filter(({ data }) => data.purpose === 'compensate');
      if (compensating.length > 0) await changeState(tx, compensating, 'compensating');
    }),
    project(WorkflowCompleted, (tx, events) => changeState(tx, events, 'completed')),
    project(WorkflowFailed, (tx, events) => changeState(tx, events, 'failed')),
    project(WorkflowStuck, (tx, events) => changeState(tx, events, 'stuck')),
    project(WorkflowUnstuck, (tx, events) => changeState(tx, events, 'compensating')),
    ignore(TaskSucceeded, TaskFailed, TaskRevoked, GroupStarted, NodeEnded, TimerSet),
    ignore(TaskDeferred, LimitRested, EventExpected, EventAwaited, EventKept, EventReceived),
  ),
});

async function changeState(
  tx: Transaction,
  events: readonly RecordedEvent<{ workflowId: string }>[],
  state: WorkflowRow['state'],
): Promise<void> {
  await tx.query(setState, [state, events.map(({ data }) => data.workflowId), events.map(({ time }) => time)]);
}

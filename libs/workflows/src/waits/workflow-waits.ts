import {
  BranchTaken,
  EventArrived,
  EventAwaited,
  EventExpected,
  EventKept,
  EventReceived,
  GroupStarted,
  LimitRested,
  NodeEnded,
  SubWorkflowStarted,
  TaskDeferred,
  TaskFailed,
  TaskHeld,
  TaskRequested,
  TaskRevoked,
  TaskSucceeded,
  TimerSet,
  WorkflowCompleted,
  WorkflowFailed,
  WorkflowForked,
  WorkflowStarted,
  WorkflowStuck,
  WorkflowUnstuck,
} from '@starter/contracts';
import { defineProjection, ignore, on, project, type RecordedEvent } from '@starter/event-sourcing';
import type { Statement, Transaction } from '@starter/messaging';

const insert: Statement = {
  name: 'workflow-wait-insert',
  text: `INSERT INTO workflow_wait (workflow_id, correlation, event_type, match, field, value_hash)
         SELECT workflow_id, correlation, event_type, match, longest.key, md5(longest.value::text)
           FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::jsonb[]) AS new (workflow_id, correlation, event_type, match)
          CROSS JOIN LATERAL (
                SELECT key, value FROM jsonb_each(match) ORDER BY length(value::text) DESC, key LIMIT 1) AS longest
             ON CONFLICT DO NOTHING`,
};
const removeAll: Statement = {
  name: 'workflow-wait-remove',
  text: `DELETE FROM workflow_wait WHERE workflow_id = ANY ($1::uuid[])`,
};

/**
 * Inline: events are expected from the very commit on that says so, until the workflow is over. What comes when no node can
 * wait for it any more changes nothing.
 */
export const workflowWaits = defineProjection('workflow-waits', {
  tables: ['workflow_wait'],
  handlers: on(
    project(
      EventExpected,
      async (tx, events) => {
        await tx.query(insert, [
          events.map(({ data }) => data.workflowId),
          events.map(({ data }) => data.correlation),
          events.map(({ data }) => data.event),
          events.map(({ data }) => JSON.stringify(data.match)),
        ]);
      },
      { manyPerStream: true },
    ),
    project(WorkflowCompleted, remove),
    project(WorkflowFailed, remove),
    ignore(WorkflowForked, TaskHeld, BranchTaken, SubWorkflowStarted, EventArrived),
    ignore(WorkflowStarted, TaskRequested, TaskRevoked, TaskSucceeded, TaskFailed, GroupStarted, NodeEnded, TimerSet),
    ignore(TaskDeferred, LimitRested, EventAwaited, EventKept, EventReceived, WorkflowStuck, WorkflowUnstuck),
  ),
});

async function remove(tx: Transaction, events: readonly RecordedEvent<{ workflowId: string }>[]): Promise<void> {
  await tx.query(removeAll, [events.map(({ data }) => data.workflowId)]);
}

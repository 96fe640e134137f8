import { TaskRequested, WorkflowCompleted, WorkflowFailed, WorkflowStarted, WorkflowStuck } from '@starter/contracts';
import { defineProjection, on, project, type RecordedEvent } from '@starter/event-sourcing';
import type { Statement, Transaction } from '@starter/messaging';
import type { WorkflowRow } from './workflow.row.js';

const insert: Statement = {
  name: 'workflow-directory-insert',
  text: `INSERT INTO workflow_directory (workflow_id, name, state, started_at, updated_at)
         VALUES ($1, $2, 'running', $3, $3)`,
};
const setState: Statement = {
  name: 'workflow-directory-state',
  text: `UPDATE workflow_directory SET state = $2, updated_at = $3 WHERE workflow_id = $1 AND state <> $2`,
};

/** Inline: a list never lags behind what `GET /workflows/:id` says. One write when a workflow starts and one per change. */
export const workflowDirectory = defineProjection(
  'workflow-directory',
  on(
    project(WorkflowStarted, async (tx, { data, time }) => {
      await tx.query(insert, [data.workflowId, data.workflow, time]);
    }),
    project(TaskRequested, async (tx, event) => {
      if (event.data.purpose === 'compensate') await changeState(tx, event, 'compensating');
    }),
    project(WorkflowCompleted, (tx, event) => changeState(tx, event, 'completed')),
    project(WorkflowFailed, (tx, event) => changeState(tx, event, 'failed')),
    project(WorkflowStuck, (tx, event) => changeState(tx, event, 'stuck')),
  ),
);

async function changeState(
  tx: Transaction,
  { data, time }: RecordedEvent<{ workflowId: string }>,
  state: WorkflowRow['state'],
): Promise<void> {
  await tx.query(setState, [data.workflowId, state, time]);
}

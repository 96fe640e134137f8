import { defineStateProjection, type StateChange } from '@starter/event-sourcing';
import type { Statement, Transaction } from '@starter/messaging';
import { isDeepStrictEqual } from 'node:util';
import { openRequests } from './engine/open-requests.js';
import { workflowInstance } from './engine/workflow.decider.js';
import type { WorkflowState } from './engine/workflow.state.js';
import type { WorkflowRow } from './workflow.row.js';

const upsert: Statement = {
  name: 'workflow-directory-upsert',
  text: `INSERT INTO workflow_directory (workflow_id, name, state, started_at, updated_at, ended_at, oldest_request_at)
         SELECT id, name, state, started_at, clock_timestamp(), ended_at, oldest_request_at
           FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[])
             AS new (id, name, state, started_at, ended_at, oldest_request_at)
         ON CONFLICT (workflow_id) DO UPDATE
            SET state = excluded.state, updated_at = excluded.updated_at, ended_at = excluded.ended_at,
                oldest_request_at = excluded.oldest_request_at`,
};

/**
 * The row of each workflow, from its state after the decision: a list never contradicts `GET /workflows/:id`. It is written
 * when it changes, which most decisions do not make it do.
 */
export const workflowDirectory = defineStateProjection('workflow-directory', {
  tables: ['workflow_directory'],
  actor: workflowInstance,
  write: async (tx: Transaction, changes: readonly StateChange<WorkflowState>[]): Promise<void> => {
    const rows = changes.flatMap(({ before, state }) => {
      const row = rowOf(state);
      return row && !(before && isDeepStrictEqual(row, rowOf(before))) ? [row] : [];
    });
    if (rows.length === 0) return;
    await tx.query(upsert, [
      rows.map(({ id }) => id),
      rows.map(({ name }) => name),
      rows.map(({ state }) => state),
      rows.map(({ startedAt }) => startedAt),
      rows.map(({ endedAt }) => endedAt),
      rows.map(({ oldestRequestAt }) => oldestRequestAt),
    ]);
  },
});

/** None before the start. */
export function rowOf(state: WorkflowState): Omit<WorkflowRow, 'updatedAt'> | undefined {
  if (state.status === 'new') return undefined;
  const { workflowId: id, workflow: name, status, startedAt, endedAt, open } = state;
  // What nobody waits for any more is no open request.
  const oldest = endedAt === undefined ? openRequests.oldest(open) : undefined;
  return {
    ...{ id, name, state: status, startedAt: new Date(startedAt) },
    endedAt: endedAt === undefined ? null : new Date(endedAt),
    oldestRequestAt: oldest ?? null,
  };
}

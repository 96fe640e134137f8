import { defineStateProjection, type StateChange } from '@starter/event-sourcing';
import type { Statement, Transaction } from '@starter/messaging';
import { isDeepStrictEqual } from 'node:util';
import { openRequests } from './engine/open-requests.js';
import { workflowInstance } from './engine/workflow.decider.js';
import type { WorkflowState } from './engine/workflow.state.js';
import type { WorkflowRow } from './workflow.row.js';
import { outcomeOf } from './workflow.view.js';

const upsert: Statement = {
  name: 'workflow-directory-upsert',
  text: `INSERT INTO workflow_directory (workflow_id, name, state, started_at, updated_at, ended_at, oldest_request_at, outcome)
         SELECT id, name, state, started_at, clock_timestamp(), ended_at, oldest_request_at, outcome
           FROM unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::jsonb[])
             AS new (id, name, state, started_at, ended_at, oldest_request_at, outcome)
         ON CONFLICT (workflow_id) DO UPDATE
            SET state = excluded.state, updated_at = excluded.updated_at, ended_at = excluded.ended_at,
                oldest_request_at = excluded.oldest_request_at, outcome = excluded.outcome`,
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
      if (!row || (before && !isChanged(before, state))) return [];
      const outcome = outcomeOf(state);
      return [{ ...row, outcome: outcome && JSON.stringify(outcome) }];
    });
    if (rows.length === 0) return;
    await tx.query(upsert, [
      rows.map(({ id }) => id),
      rows.map(({ name }) => name),
      rows.map(({ state }) => state),
      rows.map(({ startedAt }) => startedAt),
      rows.map(({ endedAt }) => endedAt),
      rows.map(({ oldestRequestAt }) => oldestRequestAt),
      rows.map(({ outcome }) => outcome),
    ]);
  },
});

/** What comes late is counted in the outcome. */
function isChanged(before: WorkflowState, state: WorkflowState): boolean {
  if (!isDeepStrictEqual(rowOf(state), rowOf(before))) return true;
  return state.status !== 'new' && state.endedAt !== undefined && 'requests' in before
    ? before.requests !== state.requests
    : false;
}

/** None before the start. */
export function rowOf(state: WorkflowState): Omit<WorkflowRow, 'updatedAt' | 'outcome'> | undefined {
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

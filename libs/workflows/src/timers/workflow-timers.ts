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

// By the clock of the database, as is what is due: a service whose clock is wrong, or jumps, neither hurries nor is late.
const insert: Statement = {
  name: 'workflow-timer-insert',
  text: `INSERT INTO workflow_timer (workflow_id, timer_id, due_at)
         SELECT workflow_id, timer_id, clock_timestamp() + delay_ms * interval '1 millisecond'
           FROM unnest($1::uuid[], $2::text[], $3::float8[]) AS new (workflow_id, timer_id, delay_ms)
             ON CONFLICT DO NOTHING`,
};
const removeAll: Statement = {
  name: 'workflow-timer-remove',
  text: `DELETE FROM workflow_timer WHERE workflow_id = ANY ($1::uuid[])`,
};

/**
 * Inline: a timer is there if and only if the event that set it is. It names no tables, because it is not rebuilt: timers that
 * have fired would come back. A timer whose time has passed by in another way fires into nothing, which costs less than to
 * remove it with every task that ends; with its workflow it goes.
 */
export const workflowTimers = defineProjection('workflow-timers', {
  handlers: on(
    project(
      TimerSet,
      async (tx, events) => {
        const timers = events.filter(({ data }) => data.delayMs > 0).map(({ data }) => data);
        if (timers.length === 0) return;
        await tx.query(insert, [
          timers.map(({ workflowId }) => workflowId),
          timers.map(({ timerId }) => timerId),
          timers.map(({ delayMs }) => delayMs),
        ]);
      },
      { manyPerStream: true },
    ),
    project(WorkflowCompleted, remove),
    project(WorkflowFailed, remove),
    ignore(WorkflowForked, TaskHeld, BranchTaken, SubWorkflowStarted, EventArrived),
    ignore(WorkflowStarted, TaskRequested, TaskRevoked, TaskSucceeded, TaskFailed, GroupStarted, NodeEnded),
    ignore(
      TaskDeferred,
      LimitRested,
      EventExpected,
      EventAwaited,
      EventKept,
      EventReceived,
      WorkflowStuck,
      WorkflowUnstuck,
    ),
  ),
});

async function remove(tx: Transaction, events: readonly RecordedEvent<{ workflowId: string }>[]): Promise<void> {
  await tx.query(removeAll, [events.map(({ data }) => data.workflowId)]);
}

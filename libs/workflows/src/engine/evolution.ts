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
import { apply, on } from '@starter/event-sourcing';
import { spentAfter } from './spent.js';
import { eventArrived, eventAwaited, eventExpected, eventKept, eventReceived } from './expected-events.js';
import { branchTaken, groupStarted, nodeEnded, subWorkflowStarted } from './node-events.js';
import { limitsAfter } from './rate-limit-events.js';
import { timerOf } from './timers.js';
import {
  completed,
  forked,
  started,
  stuck,
  taskFailed,
  taskHeld,
  taskRequested,
  taskRevoked,
  taskSucceeded,
  timerSet,
  unstuck,
  workflowFailed,
  type StartedWorkflow,
  type WorkflowState,
} from './workflow.state.js';

const changes = on(
  apply(WorkflowStarted, (_: WorkflowState, { data, time }) => started(data, time.getTime())),
  apply(TaskDeferred, (state: WorkflowState, { data }) => limitsAfter.taskDeferred(running(state), data)),
  apply(LimitRested, (state: WorkflowState, { data }) => limitsAfter.rested(running(state), data)),
  apply(TaskRequested, (state: WorkflowState, { data, time }) =>
    limitsAfter.taskRequested(taskRequested(running(state), data, time.getTime()), data),
  ),
  apply(TaskSucceeded, (state: WorkflowState, { data }) => taskSucceeded(running(state), data)),
  apply(TaskFailed, (state: WorkflowState, { data }) => taskFailed(running(state), data)),
  apply(TaskRevoked, (state: WorkflowState, { data }) => taskRevoked(running(state), data)),
  apply(TaskHeld, (state: WorkflowState, { data }) => taskHeld(running(state), data)),
  apply(GroupStarted, (state: WorkflowState, { data }) => groupStarted(running(state), data)),
  apply(NodeEnded, (state: WorkflowState, { data }) => nodeEnded(running(state), data)),
  apply(TimerSet, (state: WorkflowState, { data }) => {
    const timer = data.timerId.startsWith('limit/') ? timerOf(data.timerId) : undefined;
    return timer?.kind === 'limit'
      ? limitsAfter.timerSet(running(state), data.timerId, timer.limit)
      : timerSet(running(state), data);
  }),
  apply(EventExpected, (state: WorkflowState, { data }) => eventExpected(running(state), data)),
  apply(BranchTaken, (state: WorkflowState, { data }) => branchTaken(running(state), data)),
  apply(SubWorkflowStarted, (state: WorkflowState, { data }) => subWorkflowStarted(running(state), data)),
  apply(EventArrived, (state: WorkflowState, { data }) => eventArrived(running(state), data)),
  apply(EventAwaited, (state: WorkflowState, { data }) => eventAwaited(running(state), data)),
  apply(EventKept, (state: WorkflowState, { data }) => eventKept(running(state), data)),
  apply(EventReceived, (state: WorkflowState, { data }) => eventReceived(running(state), data)),
  apply(WorkflowForked, (state: WorkflowState, { data }) => forked(running(state), data)),
  apply(WorkflowCompleted, (state: WorkflowState, { time }) => completed(running(state), time.getTime())),
  apply(WorkflowFailed, (state: WorkflowState, { time }) => workflowFailed(running(state), time.getTime())),
  apply(WorkflowStuck, (state: WorkflowState, { data }) => stuck(running(state), data)),
  apply(WorkflowUnstuck, (state: WorkflowState, { data }) => unstuck(running(state), data.path, data.remedy)),
);

/** What each event changes; every one adds to what the workflow has come to. */
export const evolution: typeof changes = new Map(
  [...changes].map(([type, { definition, evolve }]) => [
    type,
    {
      definition,
      evolve: (state, event) => {
        const next = running(evolve(state, event));
        return { ...next, spent: spentAfter(next.spent, event) };
      },
    },
  ]),
);

function running(state: WorkflowState): StartedWorkflow {
  if (state.status === 'new') throw new Error('the first event of a workflow must be workflow.started');
  return state;
}

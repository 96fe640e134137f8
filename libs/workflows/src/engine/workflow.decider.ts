import {
  CancelWorkflow,
  DeliverEvent,
  ForkWorkflow,
  ResolveRequest,
  StartWorkflow,
  TaskRequested,
  TaskRevoked,
  TimerFired,
  TimerSet,
  UnstickWorkflow,
  WorkflowCompleted,
  WorkflowFailed,
  WorkflowStarted,
  WorkflowStuck,
  workflowReplies,
  type DataOf,
} from '@starter/contracts';
import {
  CommandFailed,
  CommandHeld,
  CommandSucceeded,
  defineActor,
  handle,
  on,
  reject,
  RevokeTask,
  revocationAddress,
  type Actor,
  type Decision,
  type OutgoingCommand,
  type RecordedEvent,
} from '@starter/event-sourcing';
import { readDefinition } from '../definition/check-definition.js';
import { defaultLimits, type WorkflowLimits } from '../definition/limits.js';
import { sizeOf } from '../definition/json-size.js';
import { membersProblem } from '../definition/members.js';
import { rootPath } from '../definition/node-path.js';
import { isHeldUp, isUndone } from './compensations.js';
import { derivedId } from './derived-id.js';
import { evolution } from './evolution.js';
import { work } from './nodes.js';
import { beginMore, hasMore } from './next-part.js';
import { nextPortion } from './rate-limits.js';
import { fail, retry, send, succeed, timedOut } from './requests.js';
import { hold, resolveRequest, unstick, whyStuck } from './resolutions.js';
import { revokeOpen } from './revocations.js';
import { Run } from './run.js';
import { timerOf } from './timers.js';
import { resultOf } from './values.js';
import { deliver, expectFromStart, handOut, isAwaited } from './waits.js';
import { recordFork, whyNotCancelled } from './operations.js';
import { workflowSnapshots } from './workflow.snapshot.js';
import { isActive, nameOf, started, type Request, type StartedWorkflow, type WorkflowState } from './workflow.state.js';

/**
 * One run of a workflow: an outcome comes in, the next commands go out. It needs no registry of definitions, because the
 * command that starts it carries the definition; so the same command and state give the same decision in every release.
 */
export function workflowActor(limits: WorkflowLimits = defaultLimits): Actor<WorkflowState> {
  const decideOn = (state: WorkflowState, what: (run: Run, state: StartedWorkflow) => string | void): Decision => {
    if (state.status === 'new') return reject('the workflow has not started; nobody waits for this');
    const run = new Run(state, limits);
    const refusal = what(run, state);
    return refusal === undefined ? finish(run) : reject(refusal);
  };
  return defineActor<WorkflowState>('workflow', {
    initialState: { status: 'new' },
    isOver: ({ status }) => status === 'completed' || status === 'failed',
    decide: on(
      handle(StartWorkflow, ({ data }, state: WorkflowState) => (state.status === 'new' ? start(data, limits) : [])),
      handle(CommandSucceeded, ({ data, message }, state: WorkflowState) =>
        settle(state, message.subject, data.requestId, limits, (run, sent) => succeed(run, sent, data.result)),
      ),
      handle(CommandFailed, ({ data, message }, state: WorkflowState) =>
        settle(state, message.subject, data.requestId, limits, (run, sent) => fail(run, sent, data)),
      ),
      handle(CommandHeld, ({ data, message }, state: WorkflowState) =>
        settle(state, message.subject, data.requestId, limits, (run, sent) => hold(run, sent, data)),
      ),
      handle(TimerFired, ({ data }, state: WorkflowState) => decideOn(state, (run) => fire(run, data.timerId))),
      handle(DeliverEvent, ({ data }, state: WorkflowState) => decideOn(state, (run) => deliver(run, data, work))),
      handle(CancelWorkflow, ({ data }, state: WorkflowState) => decideOn(state, (run) => cancel(run, data))),
      handle(ResolveRequest, ({ data }, state: WorkflowState) => decideOn(state, (run) => resolveRequest(run, data))),
      handle(ForkWorkflow, ({ data }, state: WorkflowState) => decideOn(state, (run) => recordFork(run, data))),
      handle(UnstickWorkflow, ({ data }, state: WorkflowState) => decideOn(state, (run) => unstick(run, data))),
    ),
    evolve: evolution,
    outgoing,
    sizeOf: (state) => (state.status === 'new' ? 0 : state.spent.bytes),
    snapshot: workflowSnapshots,
  });
}

export const workflowInstance = workflowActor();

function start(command: DataOf<typeof StartWorkflow>, limits: WorkflowLimits): Decision {
  const read = readDefinition(command.definition, limits);
  if ('problems' in read) return reject(`the definition cannot run: ${read.problems.join('; ')}`);
  const data = { ...command, definition: read.definition };
  const tooMany = membersProblem(read.definition, data.input, limits);
  if (tooMany !== undefined) return reject(`the definition cannot run: ${tooMany}`);
  // The time of its event is not known yet; nothing is decided by it.
  const run = new Run(started(data, 0), limits);
  expectFromStart(run);
  run.agenda.push({ do: 'enter', path: rootPath });
  const decision = finish(run);
  return 'rejected' in decision ? decision : [WorkflowStarted.of(data), ...decision];
}

/** A reply counts once, and only for a request that was made. */
function settle(
  state: WorkflowState,
  workflowId: string | undefined,
  requestId: string,
  limits: WorkflowLimits,
  then: (run: Run, sent: Request) => void,
): Decision {
  if (state.status === 'new') return reject(`there is no workflow ${workflowId}: nobody waits for this reply`);
  const sent = state.requests.get(requestId);
  if (!sent) return reject(`workflow ${workflowId} never sent request ${requestId}: nobody waits for this reply`);
  const run = new Run(state, limits);
  then(run, sent);
  return finish(run);
}

/** A timer whose time has passed by in another way changes nothing. */
function fire(run: Run, timerId: string): string | void {
  const timer = timerOf(timerId);
  if (!timer) return `"${timerId}" is no timer of a workflow`;
  switch (timer.kind) {
    case 'timeout':
      return timedOut(run, timer);
    case 'retry':
      return retry(run, timer);
    case 'sleep':
      if (isAwaited(run.state, timer.path)) run.agenda.push({ do: 'leave', path: timer.path });
      return;
    case 'deadline': {
      const { path } = timer;
      const reason = `${nameOf(run.state, path)} did not end in time`;
      if (isActive(run.state, path)) run.agenda.push({ do: 'fail', path, reason });
      return;
    }
    case 'enter':
      // One that has begun meanwhile is begun no more.
      if (run.state.postponed.has(timer.path) && isActive(run.state, timer.path)) {
        run.agenda.push({ do: 'enter', path: timer.path });
      }
      return;
    case 'hand-out':
      return handOut(run, timer.arrival, work);
    case 'limit':
      for (const [path, attempt] of nextPortion(run, timer)) send(run, path, 'run', attempt);
      return;
    case 'revoke':
    case 'terminate':
      run.terminates = timer.kind === 'terminate';
      return revokeOpen(run, timer.path, `${nameOf(run.state, timer.path)} has failed`);
    case 'part':
      run.goesOn = timerId === run.state.partTimer;
  }
}

function cancel(
  run: Run,
  { path = rootPath, reason, terminate = false }: DataOf<typeof CancelWorkflow>,
): string | void {
  const refusal = whyNotCancelled(run.state, path, terminate);
  if (refusal !== undefined) return refusal;
  run.terminates = terminate;
  const because = `${path === rootPath ? '' : `${nameOf(run.state, path)} was `}cancelled: ${reason}`;
  if (isActive(run.state, path)) run.agenda.push({ do: 'fail', path, reason: because });
  else revokeOpen(run, path, because);
}

/** Does all that follows, up to what has to be waited for. */
function finish(run: Run): Decision {
  work(run);
  // A timer goes on with what did not fit before; when all did, this is the first part.
  if (run.goesOn || !hasMore(run.before)) beginMore(run);
  end(run);
  return run.events;
}

/** It is over when its root node has ended and nothing is left to be undone; stuck when something is, and nothing more is under way. */
function end(run: Run): void {
  const { workflowId, status, ended, compensations, reason = 'unknown' } = run.state;
  if (!isUndone(compensations)) {
    if (status !== 'stuck' && isHeldUp(compensations))
      run.emit(WorkflowStuck.of({ workflowId, ...whyStuck(run.state) }));
    return;
  }
  const outcome = ended.get(rootPath) ?? (run.rootLeft ? 'succeeded' : undefined);
  if (outcome === 'failed' && status === 'compensating') run.emit(WorkflowFailed.of({ workflowId, reason }));
  if (outcome === 'succeeded' && status === 'running') {
    const result = resultOf(run.state, rootPath) ?? null;
    const fits = sizeOf(result) <= run.limits.eventBytes;
    run.emit(WorkflowCompleted.of({ workflowId, ...(fits ? { result } : {}) }));
  }
}

function outgoing({ type, data }: RecordedEvent): OutgoingCommand[] {
  if (type === TaskRequested.type) {
    const {
      workflowId,
      requestId,
      command,
      commandVersion,
      subject,
      data: input,
    } = data as DataOf<typeof TaskRequested>;
    const replyTo = { address: workflowReplies, subject: workflowId };
    return [{ type: command, version: commandVersion, id: requestId, data: input, subject, replyTo }];
  }
  if (type === TaskRevoked.type) {
    const { workflowId, requestId: taskId, command, terminate = false, reason } = data as DataOf<typeof TaskRevoked>;
    const revocation = { taskId, command, terminate, reason: `workflow ${workflowId}: ${reason}` };
    const id = derivedId(terminate ? 'terminate' : 'revoke', taskId);
    return [
      { type: RevokeTask.type, version: RevokeTask.version, id, address: revocationAddress(command), data: revocation },
    ];
  }
  if (type !== TimerSet.type) return [];
  const { workflowId, timerId, delayMs } = data as DataOf<typeof TimerSet>;
  return delayMs === 0 ? [timerFired(workflowId, timerId)] : [];
}

/** The command of a timer that is due; its id makes it one, however often it is sent. */
export const timerFired = (workflowId: string, timerId: string): OutgoingCommand => ({
  type: TimerFired.type,
  version: TimerFired.version,
  id: derivedId('timer', workflowId, timerId),
  data: { workflowId, timerId },
  subject: workflowId,
});

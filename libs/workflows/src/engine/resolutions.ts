import {
  TaskFailed,
  TaskHeld,
  TaskRevoked,
  TaskSucceeded,
  WorkflowUnstuck,
  type DataOf,
  type ResolveRequest,
  type UnstickWorkflow,
  type WorkflowStuck,
} from '@starter/contracts';
import type { CommandHeld } from '@starter/event-sourcing';
import { isOpenAttempt, isStuckAt, stuckReason } from './compensations.js';
import { failForGood, isCurrent, request, whyNotKept } from './requests.js';
import type { Run } from './run.js';
import { nameOf, type Request, type StartedWorkflow } from './workflow.state.js';

/** Why an operator cannot say what becomes of this request; undefined when one can. */
export function whyNotResolved(state: StartedWorkflow, requestId: string): string | undefined {
  const sent = state.requests.get(requestId);
  if (!sent) return `the workflow has no request ${requestId}; its steps name those that it has`;
  if (isStuck(state, sent)) return undefined;
  if (sent.state !== 'requested') return `the request has ${outcomes[sent.state]}; there is nothing to resolve`;
  if (!isCurrent(state, sent)) return 'nobody waits for the request any more; what comes of it is undone where need be';
  return undefined;
}

const outcomes = { succeeded: 'succeeded', failed: 'failed', timedOut: 'timed out' } as const;

/** Whether it is the last request of a compensation that has failed for good. */
const isStuck = ({ compensations }: StartedWorkflow, { path, purpose, attempt }: Request): boolean =>
  purpose === 'compensate' && isStuckAt(compensations, path) && isOpenAttempt(compensations, path, attempt);

/**
 * An operator says what became of a request that nobody has answered. Whoever has the command is told that it is not needed;
 * should it be carried out all the same, that success is late, and undone as any late one.
 */
export function resolveRequest(
  run: Run,
  { requestId, remedy, result = null, reason = 'resolved by an operator' }: DataOf<typeof ResolveRequest>,
): string | void {
  const refusal = whyNotResolved(run.state, requestId);
  if (refusal !== undefined) return refusal;
  const sent = run.state.requests.get(requestId) as Request;
  const { path, purpose, attempt, command } = sent;
  const { workflowId } = run.state;
  const identity = { workflowId, path, purpose, requestId };
  const unfit = remedy === 'succeed' ? whyNotKept(run, path, result) : undefined;
  if (unfit !== undefined) return unfit;
  if (isStuck(run.state, sent)) {
    if (remedy === 'fail')
      return `the request has ${outcomes[sent.state as keyof typeof outcomes]} already; there is nothing to resolve`;
    if (remedy === 'succeed') return run.emit(TaskSucceeded.of({ ...identity, result, resolved: true }));
    return unstick(run, { path, remedy });
  }
  if (!sent.revoked) run.emit(TaskRevoked.of({ workflowId, path, requestId, command, reason }));
  if (remedy === 'succeed' || (remedy === 'skip' && purpose === 'run')) {
    run.emit(TaskSucceeded.of({ ...identity, result: remedy === 'skip' ? null : result, resolved: true }));
    if (purpose === 'run') run.agenda.push({ do: 'leave', path });
    return;
  }
  if (remedy === 'retry' && purpose === 'run') {
    run.emit(TaskFailed.of({ ...identity, reason, retried: true, resolved: true }));
    return request(run, path, purpose, attempt + 1);
  }
  failForGood(run, sent, { reason, resolved: true });
  // The remedies of a compensation that is stuck.
  if (remedy === 'retry' || remedy === 'skip') return unstick(run, { path, remedy });
}

/** What to do about a compensation that is stuck, whether or not others are still under way. */
export function unstick(
  run: Run,
  { path, remedy }: Pick<DataOf<typeof UnstickWorkflow>, 'path' | 'remedy'>,
): string | void {
  const refusal = whyNotUnstuck(run.state, path);
  if (refusal !== undefined) return `${refusal}; there is nothing to ${remedy}`;
  run.emit(WorkflowUnstuck.of({ workflowId: run.state.workflowId, path, remedy }));
}

/** Why an operator has nothing to say about the compensation of this node; undefined when one has. */
export function whyNotUnstuck({ status, compensations }: StartedWorkflow, path: string): string | undefined {
  if (isStuckAt(compensations, path)) return undefined;
  const { stuck } = compensations;
  return `the workflow is ${stuck.isEmpty() ? status : `stuck at ${listed(stuck.toArray())}`}, and not stuck at ${path}`;
}

/** What an operator is told about a workflow that is stuck. */
export function whyStuck(state: StartedWorkflow): Pick<DataOf<typeof WorkflowStuck>, 'path' | 'reason'> {
  const { compensations } = state;
  const [path = '', ...others] = compensations.stuck;
  const also = others.length === 0 ? '' : ` (so did those of ${listed(others)})`;
  const because = state.reason === undefined ? '' : `; it ran because ${state.reason}`;
  const reason = `the compensation of ${nameOf(state, path)} failed: ${stuckReason(compensations, path)}${also}${because}`;
  return { path, reason };
}

const mostListed = 10;

function listed(paths: readonly string[]): string {
  const more = paths.length - mostListed;
  return `${paths.slice(0, mostListed).join(', ')}${more > 0 ? ` and ${more} more` : ''}`;
}

/** The service that has the command waits for an operator, or does so no longer: nothing but what is shown changes. */
export function hold(
  run: Run,
  { requestId, path, purpose, state, held }: Request,
  told: DataOf<typeof CommandHeld>,
): void {
  const { service, status, reason, since } = told;
  // What has been answered is over. What was said last may come first.
  if ((state !== 'requested' && state !== 'timedOut') || (held && held.since > since)) return;
  const { workflowId } = run.state;
  run.emit(TaskHeld.of({ workflowId, path, purpose, requestId, service, status, reason, since }));
}

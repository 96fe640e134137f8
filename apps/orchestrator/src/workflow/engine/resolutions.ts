import {
  TaskFailed,
  TaskHeld,
  TaskRevoked,
  TaskSucceeded,
  WorkflowUnstuck,
  type DataOf,
  type ResolveRequest,
  type UnstickWorkflow,
} from '@starter/contracts';
import type { CommandHeld } from '@starter/event-sourcing';
import { attemptsOf } from './compensations.js';
import { failForGood, isCurrent, request, whyNotKept } from './requests.js';
import type { Run } from './run.js';
import type { Request, StartedWorkflow } from './workflow.state.js';

/** Why an operator cannot say what becomes of this request; undefined when one can. */
export function whyNotResolved(state: StartedWorkflow, requestId: string): string | undefined {
  const sent = state.requests.get(requestId);
  if (!sent) return `the workflow has no request ${requestId}; its steps name those that it has`;
  if (sent.state !== 'requested') return `the request has ${outcomes[sent.state]}; there is nothing to resolve`;
  if (!isCurrent(state, sent)) return 'nobody waits for the request any more; what comes of it is undone where need be';
  return undefined;
}

const outcomes = { succeeded: 'succeeded', failed: 'failed', timedOut: 'timed out' } as const;

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
  // A compensation that failed is what the remedies of a stuck workflow are for.
  if (remedy === 'retry' || remedy === 'skip') return unstick(run, { path, remedy });
}

/** What to do about the compensation at which a workflow is stuck. */
export function unstick(
  run: Run,
  { path, remedy }: Pick<DataOf<typeof UnstickWorkflow>, 'path' | 'remedy'>,
): string | void {
  const { workflowId, status, compensations } = run.state;
  if (status !== 'stuck' || path !== compensations.current) {
    const where = status === 'stuck' ? `stuck at ${compensations.current}` : status;
    return `the workflow is ${where}, and not stuck at ${path}; there is nothing to ${remedy}`;
  }
  run.emit(WorkflowUnstuck.of({ workflowId, path, remedy }));
  if (remedy === 'retry') request(run, path, 'compensate', attemptsOf(compensations, path).all + 1);
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

import { TaskFailed, TaskRequested, TaskSucceeded, type DataOf } from '@starter/contracts';
import type { CompensationNode, Json } from '../definition/definition.js';
import { durationMs } from '../definition/duration.js';
import { sizeOf } from '../definition/json-size.js';
import { nodeAt } from '../definition/node-path.js';
import { BadReferenceError, resolve } from '../definition/reference.js';
import { refuseOverBudget } from './budget.js';
import { attemptsOf, isOpenAttempt } from './compensations.js';
import { requestIdOf } from './derived-id.js';
import { mayRequest } from './rate-limits.js';
import type { Run } from './run.js';
import { backoffMs } from './timers.js';
import { valuesAt } from './values.js';
import { isActive, nameOf, type Request, type StartedWorkflow } from './workflow.state.js';

type Attempt = Pick<Request, 'path' | 'purpose' | 'attempt' | 'requestId'>;

interface Failure {
  readonly reason: string;
  /** At the service that has the command. */
  readonly revoked?: true;
  /** Nobody has answered. */
  readonly timedOut?: true;
  /** Another attempt would fail as well. */
  readonly hopeless?: DataOf<typeof TaskFailed>['hopeless'];
}

/** Sends the command of a task or of a compensation; that of a task with a rate limit when it is its turn. */
export function request(run: Run, path: string, purpose: Request['purpose'], attempt: number): void {
  if (purpose === 'compensate' || mayRequest(run, path, attempt)) send(run, path, purpose, attempt);
}

/** Sends a command now. */
export function send(run: Run, path: string, purpose: Request['purpose'], attempt: number): void {
  const { state } = run;
  const { command, version, key, input, timeout } = commandOf(state, path, purpose);
  const { workflowId } = state;
  const requestId = requestIdOf(workflowId, path, purpose, attempt);
  try {
    const place = `${path} ${command}`;
    const data = resolve(input, place, valuesAt(state, path, run.limits.eventBytes)) as Record<string, Json>;
    if (purpose === 'run') refuseOverBudget(run, path, { bytes: sizeOf(data) });
    // A command without a key makes an actor of its own, which has the command's id.
    const subject = key === undefined ? requestId : subjectOf(data[key], `${place}.${key}`);
    const sent = { requestId, attempt, command, commandVersion: version, subject, data };
    run.emit(TaskRequested.of({ workflowId, path, purpose, ...sent }));
    if (timeout !== undefined) run.setTimer({ kind: 'timeout', path, purpose, attempt }, durationMs(timeout));
  } catch (error) {
    if (!(error instanceof BadReferenceError)) throw error;
    // Another attempt would find the same.
    failForGood(run, { path, purpose, attempt, requestId }, { reason: error.message });
  }
}

/** A reply says that the command was carried out. */
export function succeed(run: Run, sent: Request, result: Json): void {
  // The first answer counts; what nobody has answered, in time or before an operator did, may be answered late.
  if (isAnswered(sent)) return;
  const { path, purpose, requestId } = sent;
  const identity = { workflowId: run.state.workflowId, path, purpose, requestId };
  const counts = isCurrent(run.state, sent);
  const reason = whyNotKept(run, path, result);
  if (reason !== undefined) {
    // What it did is undone as after any failure; nobody asks for a result of something else.
    if (counts && purpose === 'run') return failForGood(run, sent, { reason });
    run.emit(TaskSucceeded.of({ ...identity, result: null, ...(counts ? {} : { late: true }) }));
    return;
  }
  run.emit(TaskSucceeded.of({ ...identity, result, ...(counts ? {} : { late: true }) }));
  if (counts && purpose === 'run') run.agenda.push({ do: 'leave', path });
}

/** Why a result cannot become part of the workflow; undefined when it can. */
export function whyNotKept(run: Run, path: string, result: Json): string | undefined {
  const bytes = sizeOf(result);
  const { eventBytes } = run.limits;
  if (bytes > eventBytes) return `its result takes ${bytes} bytes, and ${eventBytes} are allowed; answer with less`;
  try {
    refuseOverBudget(run, path, { bytes });
    return undefined;
  } catch (error) {
    if (error instanceof BadReferenceError) return error.message;
    throw error;
  }
}

/** A reply says that the command was not carried out, or none has come in time. */
export function fail(run: Run, attempted: Request, { reason, revoked, timedOut, hopeless }: Failure): void {
  const { path, purpose, attempt, requestId, state } = attempted;
  if (state !== 'requested') return;
  const identity = { workflowId: run.state.workflowId, path, purpose, requestId };
  const failure = { reason, ...(timedOut ? { timedOut } : {}), ...(hopeless ? { hopeless } : {}) };
  if (!isCurrent(run.state, attempted)) return run.emit(TaskFailed.of({ ...identity, ...failure, late: true }));
  const { retry } = commandOf(run.state, path, purpose);
  const tries = purpose === 'run' ? attempt : attemptsOf(run.state.compensations, path).round;
  // Nobody revokes what is to be tried again; and what a rule forbids now, it forbids again.
  if (!retry || revoked || hopeless || tries >= retry.attempts) return failForGood(run, attempted, failure);
  run.emit(TaskFailed.of({ ...identity, ...failure, retried: true }));
  const delayMs = backoffMs(retry.backoff, tries);
  if (delayMs === 0) return request(run, path, purpose, attempt + 1);
  run.setTimer({ kind: 'retry', path, purpose, attempt: attempt + 1 }, delayMs);
}

export function timedOut(run: Run, attempt: Omit<Attempt, 'requestId'>): void {
  const sent = run.state.requests.get(
    requestIdOf(run.state.workflowId, attempt.path, attempt.purpose, attempt.attempt),
  );
  if (!sent || !isCurrent(run.state, sent)) return;
  const { timeout } = commandOf(run.state, sent.path, sent.purpose);
  fail(run, sent, { reason: `no answer within ${timeout}`, timedOut: true });
}

/** The wait before this attempt is over. */
export function retry(run: Run, { path, purpose, attempt }: Omit<Attempt, 'requestId'>): void {
  const requestId = requestIdOf(run.state.workflowId, path, purpose, attempt - 1);
  const before = run.state.requests.get(requestId);
  if (!before || before.state === 'requested' || !isCurrent(run.state, before)) return;
  request(run, path, purpose, attempt);
}

const isAnswered = ({ state, resolved }: Request): boolean =>
  state === 'succeeded' || (state === 'failed' && resolved === undefined);

/** Whether what comes of this attempt decides what comes of its node: that is still open, and no later attempt was made. */
export function isCurrent(state: StartedWorkflow, { path, purpose, attempt }: Attempt): boolean {
  const { workflowId, requests, results, compensations } = state;
  if (requests.has(requestIdOf(workflowId, path, purpose, attempt + 1))) return false;
  if (purpose === 'run') return !results.has(path) && isActive(state, path);
  return isOpenAttempt(compensations, path, attempt);
}

/** No other attempt follows. A compensation is stuck then, and what has to be undone after it waits. */
export function failForGood(
  run: Run,
  { path, purpose, requestId }: Attempt,
  failure: Pick<DataOf<typeof TaskFailed>, 'reason' | 'timedOut' | 'hopeless' | 'resolved'>,
): void {
  const { workflowId } = run.state;
  const { reason } = failure;
  run.emit(TaskFailed.of({ workflowId, path, purpose, requestId, ...failure }));
  if (purpose === 'run') {
    run.agenda.push({ do: 'fail', path, reason: `${nameOf(run.state, path)} failed: ${reason}` });
  }
}

function commandOf({ definition }: StartedWorkflow, path: string, purpose: Request['purpose']): CompensationNode {
  const node = nodeAt(definition, path);
  const command = purpose === 'compensate' ? node.compensateWith : node.kind === 'task' ? node : undefined;
  if (!command) throw new Error(`${path} has no command to ${purpose}`);
  return command;
}

function subjectOf(value: Json | undefined, place: string): string {
  if (typeof value === 'string' || typeof value === 'number') return String(value);
  throw new BadReferenceError(`${place}: names the actor, so it must be a text or a number`);
}

import type {
  DataOf,
  NodeEnded,
  TaskFailed,
  TaskHeld,
  TaskRequested,
  TaskRevoked,
  TaskSucceeded,
  TimerSet,
  WorkflowForked,
  WorkflowStarted,
  WorkflowStuck,
} from '@starter/contracts';
import { Map, OrderedSet, Set, type List, type OrderedMap } from 'immutable';
import type { Json, WorkflowNode } from '../definition/definition.js';
import { nodesDownTo, placeIn, rootPath } from '../definition/node-path.js';
import { noCompensations, register, undo, type Compensations } from './compensations.js';
import { openRequests, type OpenRequests } from './open-requests.js';
import { nothingSpent, type Spent } from './spent.js';

/** One command that was sent, and what came of it. */
export interface Request {
  /** Order of sending. */
  readonly number: number;
  readonly requestId: string;
  readonly path: string;
  readonly purpose: 'run' | 'compensate';
  readonly attempt: number;
  readonly command: string;
  /** When it was sent, in milliseconds since 1970. */
  readonly requestedAt: number;
  readonly state: 'requested' | 'succeeded' | 'failed' | 'timedOut';
  /** Of one that counts for its node it is in the results of the workflow. */
  readonly result?: Json;
  readonly reason?: string;
  /** Whoever has it was told that it is not needed any more. */
  readonly revoked?: true;
  /** … and to end it at once. */
  readonly terminated?: true;
  /** An operator has said what came of it. */
  readonly resolved?: true;
  /** What the service that has it says about it meanwhile. */
  readonly held?: Omit<DataOf<typeof TaskHeld>, 'workflowId' | 'path' | 'purpose' | 'requestId'>;
}

/** A group or forEach that has begun; what it counts, nobody has to count again. */
export interface Group {
  readonly size: number;
  /** Members that have begun are those below. */
  readonly begun: number;
  readonly succeeded: number;
  readonly failed: number;
  /** Why the first one failed that did. */
  readonly firstReason?: string;
  /** Of a forEach. */
  readonly items?: readonly Json[];
}

/** An event that came for several nodes at once. */
export interface Arrival {
  readonly correlation: string;
  readonly data: Json;
  /** Paths of those that have not received it yet. */
  readonly waiting: OrderedSet<string>;
}

/** A rate limit that is counted now: a portion of its tasks may be requested until its timer fires. */
export interface LimitInUse {
  readonly timerId: string;
  /** What is left of the portion. */
  readonly left: number;
  /** Attempts of the tasks that wait, by path, first come first; some may have been cancelled since. */
  readonly deferred: OrderedMap<string, number>;
}

export const workflowStates = ['running', 'completed', 'compensating', 'failed', 'stuck'] as const;

/** Its maps share their structure from one state to the next, so that an update costs the same however much is in them. */
export interface StartedWorkflow {
  readonly status: (typeof workflowStates)[number];
  readonly workflowId: string;
  readonly workflow: string;
  /** Pinned: a deploy of another definition does not reach it. */
  readonly definition: WorkflowNode;
  readonly input: Readonly<Record<string, Json>>;
  /** In milliseconds since 1970. */
  readonly startedAt: number;
  /** When it was over; none while it is under way or stuck. */
  readonly endedAt?: number;
  /** Of a fork, the first step of its chain; those before it ended in the workflow that it is a fork of. */
  readonly firstStep?: number;
  /** By id. */
  readonly requests: Map<string, Request>;
  /** Those of them that are waited for: neither answered nor taken back. */
  readonly open: OpenRequests;
  /** Results of tasks, events and groups, by path. */
  readonly results: Map<string, Json>;
  /** How nodes ended, by path: all that failed, and those that `NodeEnded` tells. */
  readonly ended: Map<string, DataOf<typeof NodeEnded>['outcome']>;
  readonly groups: Map<string, Group>;
  /** The child that each `when` took, by path; null = it had none for its case. */
  readonly branches: Map<string, number | null>;
  /** Of sub-workflows, by path. */
  readonly inputs: Map<string, Readonly<Record<string, Json>>>;
  /** Paths of groups with members that have not begun; the last one goes on first. */
  readonly unfilled: OrderedSet<string>;
  /** Id of the timer that goes on with them, and with compensations; none is needed while there are none. */
  readonly partTimer?: string;
  /** Paths of the nodes that begin in another transaction, because this one was full. */
  readonly postponed: Set<string>;
  /** Paths of the nodes that wait for an event, or for the end of a sleep. */
  readonly waiting: Set<string>;
  /** Types of the events that are delivered, by correlation. */
  readonly expected: Map<string, string>;
  /** Paths of the nodes that have begun to wait, by correlation; those that still do are `waiting`. */
  readonly awaited: Map<string, OrderedSet<string>>;
  /** Events for which no node has waited yet, oldest first, by correlation; none is empty. */
  readonly kept: Map<string, List<Json>>;
  /** By number. */
  readonly arrivals: Map<number, Arrival>;
  /** How many there were. */
  readonly arrived: number;
  /** Rate limits that are counted now. */
  readonly limits: Map<string, LimitInUse>;
  /** How many timers of theirs there were: each has a number of its own. */
  readonly limitTimers: number;
  readonly compensations: Compensations;
  readonly spent: Spent;
  /** Other workflows that have gone on with what the steps of this one led to, oldest first. */
  readonly forks: readonly Pick<DataOf<typeof WorkflowForked>, 'fork' | 'from'>[];
  /** Why it failed. */
  readonly reason?: string;
  /** Why it is stuck, or was. */
  readonly stuckBecause?: string;
}

export type WorkflowState = { readonly status: 'new' } | StartedWorkflow;

export const started = (
  { workflowId, workflow, definition, input, fork }: DataOf<typeof WorkflowStarted>,
  at: number,
): StartedWorkflow => ({
  status: 'running',
  workflowId,
  workflow,
  // Checked when it started. Read strictly again, what was allowed then could strand it.
  definition: definition as WorkflowNode,
  input,
  startedAt: at,
  ...(fork ? { firstStep: placeIn(fork.from)?.index ?? 0 } : {}),
  requests: Map(),
  open: Map(),
  results: Map(Object.entries(fork?.results ?? {})),
  ended: Map(Object.entries(fork?.ended ?? {})),
  groups: Map(),
  branches: Map(Object.entries(fork?.branches ?? {})),
  inputs: Map(),
  unfilled: OrderedSet(),
  postponed: Set(),
  waiting: Set(),
  expected: Map(),
  awaited: Map(),
  kept: Map(),
  arrivals: Map(),
  arrived: 0,
  limits: Map(),
  limitTimers: 0,
  compensations: noCompensations,
  spent: nothingSpent,
  forks: [],
});

export function taskRequested(state: StartedWorkflow, data: DataOf<typeof TaskRequested>, at: number): StartedWorkflow {
  const { requestId, path, purpose, attempt, command } = data;
  const request = {
    number: state.requests.size,
    requestId,
    path,
    purpose,
    attempt,
    command,
    requestedAt: at,
    state: 'requested',
  } as const;
  const open = openRequests.sent(state.open, at);
  const next = { ...state, open, requests: state.requests.set(requestId, request) };
  if (purpose === 'compensate')
    return freed({ ...next, compensations: undo.requested(state.compensations, path, attempt) });
  return attempt > 1 ? next : begun(registered(next, path), path);
}

/**
 * A compensation is registered with the first request inside its node, before anything has happened: the outcome of a
 * request may be lost, so what was asked for counts as done. Nodes that never requested anything are not registered.
 */
function registered(state: StartedWorkflow, path: string): StartedWorkflow {
  const { compensations, definition } = state;
  return { ...state, compensations: register(compensations, nodesDownTo(definition, path)) };
}

export function taskSucceeded(state: StartedWorkflow, data: DataOf<typeof TaskSucceeded>): StartedWorkflow {
  const { requestId, path, purpose, result, late, resolved } = data;
  const counts = purpose === 'run' && !late;
  const outcome = { state: 'succeeded', ...(counts ? {} : { result }), ...(resolved ? { resolved } : {}) } as const;
  const next = settled(state, requestId, outcome);
  if (purpose === 'compensate')
    return late ? next : freed({ ...next, compensations: undo.done(next.compensations, path) });
  if (late) return undoneAgain(next, path);
  return counted({ ...next, results: next.results.set(path, result) }, path, 'succeeded');
}

/** What may have been undone before it happened is undone again; what is still going to be undone is not. */
function undoneAgain(state: StartedWorkflow, path: string): StartedWorkflow {
  const paths = nodesDownTo(state.definition, path).map((node) => node.path);
  return { ...state, compensations: undo.again(state.compensations, paths) };
}

export function taskFailed(state: StartedWorkflow, data: DataOf<typeof TaskFailed>): StartedWorkflow {
  const { requestId, path, purpose, reason, timedOut, retried, late, resolved } = data;
  const outcome = { state: timedOut ? 'timedOut' : 'failed', reason, ...(resolved ? { resolved } : {}) } as const;
  const next = settled(state, requestId, outcome);
  if (late || retried) return next;
  if (purpose === 'compensate') return { ...next, compensations: undo.stuck(next.compensations, path, reason) };
  return failed(begun(next, path), path, `${nameOf(state, path)} failed: ${reason}`);
}

export const taskRevoked = (
  state: StartedWorkflow,
  { requestId, terminate }: DataOf<typeof TaskRevoked>,
): StartedWorkflow => settled(state, requestId, { revoked: true, ...(terminate ? { terminated: true } : {}) });

export const taskHeld = (
  state: StartedWorkflow,
  { requestId, service, status, reason, since }: DataOf<typeof TaskHeld>,
): StartedWorkflow => settled(state, requestId, { held: { service, status, reason, since } });

/** Timers are kept as rows; the state knows only of the one that goes on with the next part. */
export function timerSet(state: StartedWorkflow, { path, timerId }: DataOf<typeof TimerSet>): StartedWorkflow {
  if (timerId.startsWith('part/')) return { ...state, partTimer: timerId };
  if (timerId.startsWith('enter/')) {
    const next = begun(state, path);
    return { ...next, postponed: next.postponed.add(path) };
  }
  return begun(timerId.startsWith('sleep/') ? { ...state, waiting: state.waiting.add(path) } : state, path);
}

export const forked = (state: StartedWorkflow, { fork, from }: DataOf<typeof WorkflowForked>): StartedWorkflow => ({
  ...state,
  forks: [...state.forks, { fork, from }],
});

export const completed = (state: StartedWorkflow, at: number): StartedWorkflow => ({
  ...state,
  status: 'completed',
  endedAt: at,
  ended: state.ended.set(rootPath, 'succeeded'),
});

export const workflowFailed = (state: StartedWorkflow, at: number): StartedWorkflow => ({
  ...state,
  status: 'failed',
  endedAt: at,
});

export const stuck = (
  { endedAt: _, ...state }: StartedWorkflow,
  { reason }: DataOf<typeof WorkflowStuck>,
): StartedWorkflow => ({ ...state, status: 'stuck', stuckBecause: reason });

export const unstuck = (state: StartedWorkflow, path: string, remedy: 'retry' | 'skip' | 'resume'): StartedWorkflow =>
  freed({
    ...state,
    compensations: remedy === 'retry' ? undo.retried(state.compensations, path) : undo.done(state.compensations, path),
  });

/** Something moves again: whether it is still stuck shows when nothing more does. */
const freed = (state: StartedWorkflow): StartedWorkflow => {
  if (state.status !== 'stuck') return state;
  return { ...state, status: state.ended.get(rootPath) === 'failed' ? 'compensating' : 'running' };
};

/** Whether what happens to this node still matters: neither it nor one above it has ended. */
export function isActive(state: StartedWorkflow, path: string): boolean {
  if (state.status === 'completed' || state.status === 'failed') return false;
  if (state.ended.isEmpty()) return true;
  for (let end = path.length; end > 0; end = path.lastIndexOf('.', end - 1)) {
    if (state.ended.has(path.slice(0, end))) return false;
  }
  return true;
}

/** How texts for people call a node: `0.1 email.send`. */
export function nameOf({ definition }: Pick<StartedWorkflow, 'definition'>, path: string): string {
  const node = nodesDownTo(definition, path).at(-1)?.node;
  return `${path} ${node?.kind === 'task' ? node.command : node?.kind}`;
}

/** The first event of a node says that it has begun, and the first one inside a member of a group that this has. */
export function begun(state: StartedWorkflow, path: string): StartedWorkflow {
  let { groups, unfilled } = state;
  for (let place = placeIn(path); place; place = placeIn(place.parent)) {
    const { parent, index } = place;
    const group = groups.get(parent);
    if (!group || index < group.begun) continue;
    groups = groups.set(parent, { ...group, begun: index + 1 });
    if (index + 1 === group.size) unfilled = unfilled.delete(parent);
  }
  const postponed = state.postponed.delete(path);
  if (groups === state.groups && postponed === state.postponed) return state;
  return { ...state, groups, unfilled, postponed };
}

export function failed(state: StartedWorkflow, path: string, reason: string): StartedWorkflow {
  const next = counted(
    {
      ...state,
      ended: state.ended.set(path, 'failed'),
      unfilled: state.unfilled.delete(path),
      waiting: state.waiting.delete(path),
    },
    path,
    'failed',
    reason,
  );
  const undone = { ...next, compensations: undo.scope(next.compensations, path) };
  if (path !== rootPath) return undone;
  return { ...undone, status: 'compensating', reason };
}

/** A group counts the ends of its members. */
export function counted(
  state: StartedWorkflow,
  path: string,
  outcome: 'succeeded' | 'failed',
  reason?: string,
): StartedWorkflow {
  const parent = placeIn(path)?.parent;
  const group = parent === undefined ? undefined : state.groups.get(parent);
  if (parent === undefined || !group) return state;
  const firstReason = group.firstReason ?? reason;
  const next = { ...group, [outcome]: group[outcome] + 1, ...(firstReason === undefined ? {} : { firstReason }) };
  return { ...state, groups: state.groups.set(parent, next) };
}

const isOpen = ({ state, revoked }: Request): boolean => state === 'requested' && !revoked;

function settled(
  state: StartedWorkflow,
  requestId: string,
  outcome: Partial<Omit<Request, 'requestId' | 'number'>>,
): StartedWorkflow {
  const request = state.requests.get(requestId);
  // A task whose input could not be put together was never requested.
  if (!request) return state;
  const settled = { ...request, ...outcome };
  const open = isOpen(request) && !isOpen(settled) ? openRequests.closed(state.open, request.requestedAt) : state.open;
  return { ...state, open, requests: state.requests.set(requestId, settled) };
}

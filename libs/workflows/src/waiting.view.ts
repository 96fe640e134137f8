import { runStatement, type Statement } from '@starter/messaging';
import type { DataSource } from 'typeorm';
import { z } from 'zod';
import { nodeAt, nodesDownTo, rootPath } from './definition/node-path.js';
import { isCurrent } from './engine/requests.js';
import { timerIdOf, timerOf, type Timer } from './engine/timers.js';
import { isAwaited } from './engine/waits.js';
import { isActive, type Request, type StartedWorkflow } from './engine/workflow.state.js';

/** What a workflow waits for besides the answers to its requests. */
export const waiting = {
  /** Nodes that wait for an event or the end of a sleep; at most 100 of them. */
  waits: z.array(
    z.object({
      path: z.string(),
      kind: z.enum(['waitForEvent', 'sleep']),
      /** Type of the event, and the values that its data must have. */
      event: z.string().optional(),
      match: z.record(z.string(), z.unknown()).optional(),
      /** When the sleep is over, or the wait fails; none without a timeout. */
      deadline: z.iso.datetime().optional(),
    }),
  ),
  /** There are more than that. */
  moreWaits: z.literal(true).optional(),
  /** What happens by itself, soonest first, of the nodes that are shown: those that are over have none. */
  timers: z.array(
    z.object({
      /**
       * `deadline`: the node fails unless it has ended. `retry`: this attempt is made. `limit`: tasks that wait for this rate limit
       * are requested.
       */
      kind: z.enum(['deadline', 'retry', 'limit']),
      path: z.string().optional(),
      attempt: z.number().optional(),
      limit: z.string().optional(),
      /** Tasks that wait for the limit. */
      waiting: z.number().optional(),
      dueAt: z.iso.datetime(),
    }),
  ),
};
type WaitView = z.output<typeof waiting.waits>[number];
type TimerView = z.output<typeof waiting.timers>[number];

export interface WaitingView {
  readonly waits: WaitView[];
  readonly moreWaits?: true;
  readonly timers: TimerView[];
  /** When a request fails that nobody answers, by its id. */
  readonly deadlines: ReadonlyMap<string, Date>;
}

/** Of one that is over, or as far as the state alone tells. */
export const noWaiting: WaitingView = { waits: [], timers: [], deadlines: new Map() };

const mostWaits = 100;

// By their keys: however many timers and waits a workflow has left behind, only those are read that are shown.
export const dueAt: Statement = {
  name: 'workflow-timer-due-at',
  text: `SELECT timer_id AS id, due_at AS "dueAt" FROM workflow_timer WHERE workflow_id = $1 AND timer_id = ANY ($2::text[])`,
};
export const matches: Statement = {
  name: 'workflow-wait-match',
  text: `SELECT correlation, match FROM workflow_wait WHERE workflow_id = $1 AND correlation = ANY ($2::uuid[])`,
};

/**
 * What the state waits for, with the times of its timers.
 * @param requests those that are shown
 */
export async function readWaiting(
  dataSource: DataSource,
  state: StartedWorkflow,
  requests: readonly Request[],
): Promise<WaitingView> {
  if (state.endedAt !== undefined) return noWaiting;
  const { paths, more } = waitsOf(state);
  const correlations = correlationsOf(state, new Set(paths));
  const timers = [...timersOf(state, requests, paths)];
  const [due, match] = await Promise.all([
    readDue(dataSource, state, [...timers.map(({ timer }) => timer), ...paths.map((path) => timerOfWait(state, path))]),
    readMatches(dataSource, state, [...new Set(correlations.values())]),
  ]);
  const dueAtOf = (timer: Timer) => due.get(timerIdOf(timer));
  return {
    waits: paths.map((path) => {
      const deadline = dueAtOf(timerOfWait(state, path))?.toISOString();
      const correlation = correlations.get(path);
      const values = correlation === undefined ? undefined : match.get(correlation);
      const event = correlation === undefined ? undefined : state.expected.get(correlation);
      return {
        ...{ path, kind: nodeAt(state.definition, path).kind as WaitView['kind'] },
        ...(event === undefined ? {} : { event }),
        ...(values === undefined ? {} : { match: values }),
        ...(deadline === undefined ? {} : { deadline }),
      };
    }),
    ...(more ? { moreWaits: true } : {}),
    timers: timers
      .flatMap(({ timer, shown }) => {
        const at = dueAtOf(timer)?.toISOString();
        return at === undefined || !shown ? [] : [{ ...shown, dueAt: at }];
      })
      .sort((one, other) => one.dueAt.localeCompare(other.dueAt)),
    deadlines: new Map(
      timers.flatMap(({ timer, requestId }) => {
        const at = dueAtOf(timer);
        return at === undefined || requestId === undefined ? [] : [[requestId, at]];
      }),
    ),
  };
}

function waitsOf(state: StartedWorkflow): { readonly paths: readonly string[]; readonly more: boolean } {
  const paths: string[] = [];
  for (const path of state.waiting) {
    if (!isAwaited(state, path)) continue;
    if (paths.length === mostWaits) return { paths, more: true };
    paths.push(path);
  }
  return { paths: paths.sort((one, other) => one.localeCompare(other, 'en', { numeric: true })), more: false };
}

function correlationsOf({ awaited }: StartedWorkflow, paths: ReadonlySet<string>): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const [correlation, waiting] of awaited) {
    for (const path of waiting) if (paths.has(path)) found.set(path, correlation);
  }
  return found;
}

const timerOfWait = ({ definition }: StartedWorkflow, path: string): Timer => ({
  kind: nodeAt(definition, path).kind === 'sleep' ? 'sleep' : 'deadline',
  path,
});

interface Candidate {
  readonly timer: Timer;
  readonly shown?: Omit<TimerView, 'dueAt'>;
  /** The request whose deadline it is. */
  readonly requestId?: string;
}

/** Those that still matter; whether there are such timers only the table knows. */
function* timersOf(
  state: StartedWorkflow,
  requests: readonly Request[],
  waits: readonly string[],
): Generator<Candidate> {
  const open = new Set([rootPath]);
  for (const { path, purpose, attempt, requestId, state: outcome, revoked } of requests) {
    if (outcome === 'requested' && !revoked) {
      yield { timer: { kind: 'timeout', path, purpose, attempt }, requestId };
    } else if (isCurrent(state, { path, purpose, attempt, requestId }) && outcome !== 'succeeded') {
      const next = attempt + 1;
      const timer = { kind: 'retry', path, purpose, attempt: next } as const;
      yield { timer, shown: { kind: 'retry', path, attempt: next } };
    } else continue;
    if (purpose === 'run') open.add(path);
  }
  for (const [limit, { timerId, deferred }] of state.limits) {
    const timer = timerOf(timerId);
    if (timer) yield { timer, shown: { kind: 'limit', limit, waiting: deferred.size } };
    const first = deferred.keySeq().first();
    if (first !== undefined) open.add(first);
  }
  const nodes = new Map(
    [...open, ...waits].flatMap((path) => nodesDownTo(state.definition, path)).map(({ path, node }) => [path, node]),
  );
  const shownAsWaits = new Set(waits);
  for (const [path, node] of nodes) {
    if (node.kind === 'task' || node.kind === 'sleep' || node.timeout === undefined) continue;
    if (shownAsWaits.has(path) || !isActive(state, path)) continue;
    yield { timer: { kind: 'deadline', path }, shown: { kind: 'deadline', path } };
  }
}

async function readDue(
  dataSource: DataSource,
  { workflowId }: StartedWorkflow,
  timers: readonly Timer[],
): Promise<ReadonlyMap<string, Date>> {
  if (timers.length === 0) return new Map();
  const rows = await runStatement<{ id: string; dueAt: Date }>(dataSource, dueAt, [workflowId, timers.map(timerIdOf)]);
  return new Map(rows.map((row) => [row.id, row.dueAt]));
}

async function readMatches(
  dataSource: DataSource,
  { workflowId }: StartedWorkflow,
  correlations: readonly string[],
): Promise<ReadonlyMap<string, Record<string, unknown>>> {
  if (correlations.length === 0) return new Map();
  const rows = await runStatement<{ correlation: string; match: Record<string, unknown> }>(dataSource, matches, [
    workflowId,
    correlations,
  ]);
  return new Map(rows.map(({ correlation, match }) => [correlation, match]));
}

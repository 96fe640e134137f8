import { Map } from 'immutable';
import { placeIn, rootPath, type PlacedNode } from '../definition/node-path.js';

/** The compensation of a node. */
interface Compensation {
  /** Order of registration. */
  readonly number: number;
  /** Of all, so that each request is another one. */
  readonly attempts: number;
  /** Attempts before the present round: a round begins when it is taken up anew, and has the whole retry budget. */
  readonly before: number;
  readonly state: 'registered' | 'queued' | 'requested' | 'done';
}

/** A singly linked list: adding costs the same however long it is. */
interface List<T> {
  readonly first: T;
  readonly rest: List<T> | undefined;
}

/** What is undone together when it fails: the workflow, or a part of it whose failure does not fail the whole. */
interface Scope {
  readonly registered?: List<string>;
  readonly inner?: List<string>;
}

export interface Compensations {
  /** By path of their node. */
  readonly byPath: Map<string, Compensation>;
  /** By path; only those in which something was registered. */
  readonly scopes: Map<string, Scope>;
  /** Paths of what is to be undone, next first. */
  readonly queue?: List<string>;
  /** Path of the one that is under way, or at which the workflow is stuck. */
  readonly current?: string;
}

export const noCompensations: Compensations = { byPath: Map(), scopes: Map() };

/** Registers what the nodes on the way to a task have; the nodes are those from the root down. */
export function register(compensations: Compensations, nodes: readonly PlacedNode[]): Compensations {
  if (!nodes.some(({ node }) => node.compensateWith)) return compensations;
  let { byPath, scopes } = compensations;
  let scope = rootPath;
  nodes.forEach(({ path, node }, index) => {
    const parent = nodes[index - 1]?.node;
    if (parent && isScope(parent, path)) {
      scopes = linked(scopes, scope, path);
      scope = path;
    }
    if (!node.compensateWith || byPath.has(path)) return;
    byPath = byPath.set(path, { number: byPath.size, attempts: 0, before: 0, state: 'registered' });
    const known = scopes.get(scope);
    scopes = scopes.set(scope, { ...known, registered: { first: path, rest: known?.registered } });
  });
  return { ...compensations, byPath, scopes };
}

function linked(scopes: Map<string, Scope>, outer: string, inner: string): Map<string, Scope> {
  if (scopes.has(inner)) return scopes;
  const known = scopes.get(outer);
  return scopes.set(inner, {}).set(outer, { ...known, inner: { first: inner, rest: known?.inner } });
}

/** Whether the failure of this child leaves its parent running. */
function isScope(parent: PlacedNode['node'], path: string): boolean {
  if (parent.kind === 'fallback') return placeIn(path)?.index === 0;
  return (parent.kind === 'group' || parent.kind === 'forEach') && typeof parent.policy === 'object';
}

/** Another attempt at the one that is first in the queue, or under way. */
export function requestedAgain(compensations: Compensations, path: string, attempt: number): Compensations {
  const next = changed(compensations, path, { attempts: attempt, state: 'requested' });
  return next.current === path ? next : { ...taken(next), current: path };
}

export const undo = {
  /** All of a scope is to be undone, what was registered last first; nothing when the path is that of no scope. */
  scope(compensations: Compensations, path: string): Compensations {
    let { scopes } = compensations;
    const paths: string[] = [];
    const open = [path];
    for (let scope = open.pop(); scope !== undefined; scope = open.pop()) {
      const { registered, inner } = scopes.get(scope) ?? {};
      scopes = scopes.delete(scope);
      paths.push(...eachOf(registered));
      open.push(...eachOf(inner));
    }
    const numberOf = (each: string) => compensations.byPath.get(each)?.number ?? 0;
    paths.sort((one, other) => numberOf(one) - numberOf(other));
    return queued({ ...compensations, scopes }, paths);
  },

  /** Those of these that have been requested are to be requested once more; outermost first. */
  again(compensations: Compensations, paths: readonly string[]): Compensations {
    const before = paths.filter((path) => {
      const state = compensations.byPath.get(path)?.state;
      return state === 'requested' || state === 'done';
    });
    return queued(compensations, before);
  },

  /** The one under way is done, or as good as done. */
  done(compensations: Compensations, path: string): Compensations {
    const { current: _, ...rest } = compensations;
    const again = compensations.byPath.get(path)?.state === 'queued';
    return again ? rest : changed(rest, path, { state: 'done' });
  },

  /** The first in the queue, or the one under way, could not be undone: the queue waits for an operator. */
  stuck: (compensations: Compensations, path: string): Compensations =>
    compensations.current === path ? compensations : { ...taken(compensations), current: path },

  /** The one at which the workflow is stuck begins anew. */
  retried(compensations: Compensations, path: string): Compensations {
    const attempts = compensations.byPath.get(path)?.attempts ?? 0;
    return changed(compensations, path, { before: attempts });
  },
};

/** Attempts of a compensation: of all, and of the present round. */
export function attemptsOf({ byPath }: Compensations, path: string): { readonly all: number; readonly round: number } {
  const { attempts = 0, before = 0 } = byPath.get(path) ?? {};
  return { all: attempts, round: attempts - before };
}

/** What is to be undone next, when nothing is under way. */
export const nextToUndo = ({ queue, current }: Compensations): string | undefined =>
  current === undefined ? queue?.first : undefined;

export const isUndone = ({ queue, current }: Compensations): boolean => queue === undefined && current === undefined;

/** The last one of these is the first to be undone. */
function queued(compensations: Compensations, paths: readonly string[]): Compensations {
  return paths.reduce<Compensations>((before, path) => {
    const attempts = before.byPath.get(path)?.attempts ?? 0;
    const next = changed(before, path, { state: 'queued', before: attempts });
    return { ...next, queue: { first: path, rest: before.queue } };
  }, compensations);
}

function taken({ queue, ...others }: Compensations): Compensations {
  return queue?.rest ? { ...others, queue: queue.rest } : others;
}

function changed(compensations: Compensations, path: string, change: Partial<Compensation>): Compensations {
  const known = compensations.byPath.get(path);
  return known ? { ...compensations, byPath: compensations.byPath.set(path, { ...known, ...change }) } : compensations;
}

function* eachOf<T>(list: List<T> | undefined): Generator<T> {
  for (let left = list; left; left = left.rest) yield left.first;
}

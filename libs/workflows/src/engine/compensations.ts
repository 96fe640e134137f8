import { Map, OrderedSet, Set } from 'immutable';
import { childPath, placeIn, type PlacedNode } from '../definition/node-path.js';

/** The compensation of a node. */
interface Compensation {
  /** `waiting` from its registration on; it is requested when all is undone that has to be undone before it. */
  readonly state: 'waiting' | 'underWay' | 'stuck' | 'done';
  /** Of all, so that each request is another one. */
  readonly attempts: number;
  /** Attempts before the present round: a round begins when it is taken up anew, and has the whole retry budget. */
  readonly before: number;
  /** What it undoes has happened once more since it was requested: it is to be requested again when it is done. */
  readonly again?: true;
  /** Why it is stuck. */
  readonly reason?: string;
}

/** A node with a compensation, or with such nodes in it. */
interface Place {
  /** It is undone when it fails, whatever becomes of what it is in: its failure does not fail that. */
  readonly isScope?: true;
  /** It was such a scope, and has failed. */
  readonly hasFailed?: true;
  /** A chain: its steps are undone one after the other, the last one first. Children of other nodes are undone side by side. */
  readonly isChain?: true;
  readonly own?: Compensation;
  /** None when all of its children are undone. */
  readonly inside?: Inside;
}

interface Inside {
  /** Numbers of the children in which something is left to be undone. */
  readonly left: Set<number>;
  /** Those in which something can be requested, unless something outside of them comes first. */
  readonly ready: OrderedSet<number>;
  /** Of a chain, the last one that is left. */
  readonly last?: number;
}

/**
 * What there is to be undone, as a tree of the nodes. Each place knows which of its children matter, so that a change costs
 * as many steps as the node is deep, and nobody searches a large group for what comes next.
 */
export interface Compensations {
  /** By path. */
  readonly places: Map<string, Place>;
  /** Paths of the scopes that have failed and in which something is left; none is inside another. */
  readonly undoing: OrderedSet<string>;
  /** Those of them in which something can be requested. */
  readonly ready: OrderedSet<string>;
  /** How many are requested, or wait for their next attempt. */
  readonly underWay: number;
  /** Paths of those that an operator has to look at, the oldest first. */
  readonly stuck: OrderedSet<string>;
}

export const noCompensations: Compensations = {
  places: Map(),
  undoing: OrderedSet(),
  ready: OrderedSet(),
  underWay: 0,
  stuck: OrderedSet(),
};

/** Registers what the nodes on the way to a task have; the nodes are those from the root down. */
export function register(compensations: Compensations, nodes: readonly PlacedNode[]): Compensations {
  const innermost = nodes.findLastIndex(({ node }) => node.compensateWith);
  let next = compensations;
  for (const [index, { path, node }] of nodes.slice(0, innermost + 1).entries()) {
    if (next.places.has(path)) continue;
    const parent = nodes[index - 1]?.node;
    next = put(next, path, {
      ...(!parent || isScope(parent, path) ? { isScope: true } : {}),
      ...(node.kind === 'chain' ? { isChain: true } : {}),
      ...(node.compensateWith ? { own: { state: 'waiting', attempts: 0, before: 0 } } : {}),
    });
  }
  return next;
}

/** Whether the failure of this child leaves its parent running. */
function isScope(parent: PlacedNode['node'], path: string): boolean {
  if (parent.kind === 'fallback') return placeIn(path)?.index === 0;
  return (parent.kind === 'group' || parent.kind === 'forEach') && typeof parent.policy === 'object';
}

export const undo = {
  /** All of a scope is to be undone; nothing when the path is that of no scope. */
  scope(compensations: Compensations, path: string): Compensations {
    const place = compensations.places.get(path);
    if (!place?.isScope) return compensations;
    const places = compensations.places.set(path, { ...place, hasFailed: true });
    return begun({ ...compensations, places }, path);
  },

  requested(compensations: Compensations, path: string, attempt: number): Compensations {
    return changed(compensations, path, ({ state, attempts, before }) => ({
      state: 'underWay',
      attempts: attempt,
      before: state === 'waiting' ? attempts : before,
    }));
  },

  /** It is undone, or as good as undone. */
  done: (compensations: Compensations, path: string): Compensations =>
    changed(compensations, path, ({ again, reason: _, ...own }) => ({ ...own, state: again ? 'waiting' : 'done' })),

  /** It could not be undone: what has to be undone after it waits for an operator. */
  stuck: (compensations: Compensations, path: string, reason: string): Compensations =>
    changed(compensations, path, (own) => ({ ...own, state: 'stuck', reason })),

  /** One that is stuck is requested anew. */
  retried: (compensations: Compensations, path: string): Compensations =>
    changed(compensations, path, ({ attempts, before }) => ({ state: 'waiting', attempts, before })),

  /** Something at the last of these paths has happened after all: those that have been requested are requested once more. */
  again(compensations: Compensations, paths: readonly string[]): Compensations {
    const next = paths.reduce(
      (before, path) =>
        changed(before, path, (own) => {
          if (own.state === 'waiting') return own;
          return own.state === 'done' ? { ...own, state: 'waiting' } : { ...own, again: true };
        }),
      compensations,
    );
    const scope = paths.find((path) => next.places.get(path)?.hasFailed);
    return scope === undefined || next === compensations ? next : begun(next, scope);
  },
};

/** Attempts of a compensation: of all, and of the present round. */
export function attemptsOf({ places }: Compensations, path: string): { readonly all: number; readonly round: number } {
  const { attempts = 0, before = 0 } = places.get(path)?.own ?? {};
  return { all: attempts, round: attempts - before };
}

/** Whether an attempt is the last one of a compensation that is not done. */
export function isOpenAttempt({ places }: Compensations, path: string, attempt: number): boolean {
  const own = places.get(path)?.own;
  return own?.attempts === attempt && (own.state === 'underWay' || own.state === 'stuck');
}

export const isStuckAt = ({ stuck }: Compensations, path: string): boolean => stuck.has(path);

/** Why it is. */
export const stuckReason = ({ places }: Compensations, path: string): string =>
  places.get(path)?.own?.reason ?? 'unknown';

/** What can be requested now; of those that can be side by side it is any. */
export function nextToUndo({ places, ready }: Compensations): string | undefined {
  let path = ready.last();
  while (path !== undefined) {
    const { inside } = places.get(path) ?? {};
    const child: number | undefined = inside?.last ?? inside?.ready.last();
    if (child === undefined) break;
    path = childPath(path, child);
  }
  return path;
}

export const isUndone = ({ undoing }: Compensations): boolean => undoing.isEmpty();

/** Whether nothing more is undone until an operator has looked. */
export const isHeldUp = ({ stuck, underWay, ready }: Compensations): boolean =>
  !stuck.isEmpty() && underWay === 0 && ready.isEmpty();

/** Scopes in this one are undone with it from now on. */
function begun(compensations: Compensations, scope: string): Compensations {
  const place = compensations.places.get(scope);
  if (!isLeft(place)) return compensations;
  const isOutside = (path: string) => path !== scope && !path.startsWith(`${scope}.`);
  const [undoing, ready] = [compensations.undoing.filter(isOutside), compensations.ready.filter(isOutside)];
  return { ...compensations, undoing: undoing.add(scope), ready: isReady(place) ? ready.add(scope) : ready };
}

function changed(
  compensations: Compensations,
  path: string,
  change: (own: Compensation) => Compensation,
): Compensations {
  const place = compensations.places.get(path);
  if (!place?.own) return compensations;
  const own = change(place.own);
  if (own === place.own) return compensations;
  const underWay = Number(own.state === 'underWay') - Number(place.own.state === 'underWay');
  const { stuck } = compensations;
  return {
    ...put(compensations, path, { ...place, own }),
    underWay: compensations.underWay + underWay,
    stuck: own.state === 'stuck' ? stuck.add(path) : stuck.delete(path),
  };
}

/** Puts a place into the tree, and tells those above it what that changes for them. */
function put(compensations: Compensations, path: string, place: Place): Compensations {
  let { places, undoing, ready } = compensations;
  for (let [at, next] = [path, place]; ;) {
    const before = places.get(at);
    places = places.set(at, next);
    const [left, can] = [isLeft(next), isReady(next)];
    if (undoing.has(at)) {
      undoing = left ? undoing : undoing.delete(at);
      ready = can ? ready.add(at) : ready.delete(at);
    }
    const above = placeIn(at);
    if (!above || (isLeft(before) === left && isReady(before) === can)) break;
    [at, next] = [above.parent, withChild(places.get(above.parent) ?? {}, above.index, left, can)];
  }
  return { ...compensations, places, undoing, ready };
}

const isLeft = (place: Place | undefined): boolean =>
  place?.inside !== undefined || (place?.own !== undefined && place.own.state !== 'done');

/** A node is undone after all that is inside it. */
function isReady(place: Place | undefined): boolean {
  if (!place?.inside) return place?.own?.state === 'waiting';
  const { ready, last } = place.inside;
  return last === undefined ? !ready.isEmpty() : ready.has(last);
}

function withChild({ inside, ...place }: Place, index: number, isLeft: boolean, isReady: boolean): Place {
  const { left: before = Set<number>(), ready: readyBefore = OrderedSet<number>(), last = -1 } = inside ?? {};
  const left = isLeft ? before.add(index) : before.delete(index);
  const ready = isReady ? readyBefore.add(index) : readyBefore.delete(index);
  if (left.isEmpty()) return place;
  return { ...place, inside: { left, ready, ...(place.isChain ? { last: lastOf(left, Math.max(last, index)) } : {}) } };
}

/** Steps are undone from the last one on, so that it is near to where it was before. */
function lastOf(left: Set<number>, atMost: number): number {
  let last = atMost;
  while (!left.has(last)) last -= 1;
  return last;
}

import {
  EventArrived,
  EventAwaited,
  EventExpected,
  EventKept,
  EventReceived,
  type DataOf,
  type DeliverEvent,
} from '@starter/contracts';
import { OrderedSet } from 'immutable';
import { sortedJson, type Json, type WorkflowNode } from '../definition/definition.js';
import { anyItem, nodesOf, type PlacedNode } from '../definition/node-path.js';
import { BadReferenceError, resolve } from '../definition/reference.js';
import { sizeOf } from '../definition/json-size.js';
import { derivedId } from './derived-id.js';
import type { Run } from './run.js';
import { valuesAt, type InputsAhead } from './values.js';
import { isActive, type StartedWorkflow } from './workflow.state.js';

type WaitNode = WorkflowNode & { readonly kind: 'waitForEvent' };
type PlacedWait = PlacedNode & { readonly node: WaitNode };

/**
 * Events are expected from the start of the workflow on wherever what they must match is known by then, because it refers to
 * the input only: what happens between the start and the wait is not lost.
 */
export function expectFromStart(run: Run): void {
  const ahead: InputsAhead = new Map();
  for (const { path, node } of waitsOf(run.state.definition)) {
    if (path.split('.').includes(anyItem) || !isActive(run.state, path)) continue;
    try {
      expect(run, node.event, matchOf(run.state, path, node, ahead));
    } catch (error) {
      if (!(error instanceof BadReferenceError)) throw error;
    }
  }
}

/** @throws BadReferenceError */
export function beginWait(run: Run, path: string, node: WaitNode): void {
  const { workflowId } = run.state;
  const correlation = expect(run, node.event, matchOf(run.state, path, node));
  const kept = run.state.kept.get(correlation);
  if (!kept) return run.emit(EventAwaited.of({ workflowId, path, correlation }));
  run.emit(EventReceived.of({ workflowId, path, correlation, data: kept.first() as Json, kept: true }));
  run.agenda.push({ do: 'leave', path });
}

/**
 * An event is for every node that waits for it now; when none does, for the next one that will.
 * @param proceed does what follows: a node that only begins to wait then waits for another event
 */
export function deliver(
  run: Run,
  { correlation, data }: DataOf<typeof DeliverEvent>,
  proceed: (run: Run) => void,
): string | void {
  const { workflowId, expected, awaited, arrived } = run.state;
  const event = expected.get(correlation);
  if (event === undefined) return `workflow ${workflowId} expects no event ${correlation}`;
  const waiting = (awaited.get(correlation) ?? OrderedSet<string>()).filter((path) => isAwaited(run.state, path));
  const only = waiting.first();
  if (only === undefined) return mayBeAwaited(run.state, event) ? keep(run, correlation, data) : undefined;
  if (waiting.size > 1) {
    const arrival = arrived + 1;
    run.emit(EventArrived.of({ workflowId, arrival, correlation, data }));
    return handOut(run, arrival, proceed);
  }
  run.emit(EventReceived.of({ workflowId, path: only, correlation, data }));
  run.agenda.push({ do: 'leave', path: only });
}

/** Gives an event that came for many nodes to so many of them as there is room for in this transaction. */
export function handOut(run: Run, arrival: number, proceed: (run: Run) => void): void {
  const { workflowId, arrivals } = run.state;
  const { waiting = OrderedSet<string>(), correlation = '' } = arrivals.get(arrival) ?? {};
  for (const path of waiting) {
    if (!isAwaited(run.state, path)) continue;
    if (run.isFull) {
      const left = run.state.arrivals.get(arrival)?.waiting.size ?? 0;
      return run.setTimer({ kind: 'hand-out', arrival, left }, 0);
    }
    run.emit(EventReceived.of({ workflowId, path, correlation, arrival }));
    run.agenda.push({ do: 'leave', path });
    proceed(run);
  }
}

/** Whether this wait or sleep goes on. */
export const isAwaited = (state: StartedWorkflow, path: string): boolean =>
  state.waiting.has(path) && isActive(state, path);

function keep(run: Run, correlation: string, data: Json): string | void {
  const { workflowId, expected, kept } = run.state;
  const { keptEvents } = run.limits;
  if ((kept.get(correlation)?.size ?? 0) >= keptEvents) {
    return `workflow ${workflowId} keeps ${keptEvents} events ${expected.get(correlation)} already, for which no node waits yet`;
  }
  const bytes = run.state.spent.bytes + sizeOf(data);
  const { bytes: most } = run.limits.instance;
  if (bytes > most) return `workflow ${workflowId} would have ${bytes} bytes of events in all, and ${most} are allowed`;
  run.emit(EventKept.of({ workflowId, correlation, data }));
}

/** @returns the correlation */
function expect(run: Run, event: string, match: Record<string, Json>): string {
  const { workflowId, expected } = run.state;
  const correlation = derivedId('event', event, sortedJson(match));
  if (!expected.has(correlation)) run.emit(EventExpected.of({ workflowId, correlation, event, match }));
  return correlation;
}

/** Of values that tell one event from others, in bytes as JSON. */
const mostMatchBytes = 10_000;

const matchOf = (
  state: StartedWorkflow,
  path: string,
  { match }: WaitNode,
  ahead?: InputsAhead,
): Record<string, Json> =>
  resolve(match, `${path} waitForEvent.match`, valuesAt(state, path, mostMatchBytes, ahead)) as Record<string, Json>;

/** Whether a node may still begin to wait for such an event. */
const mayBeAwaited = (state: StartedWorkflow, event: string): boolean =>
  waitsOf(state.definition).some(({ path, node }) => node.event === event && isActive(state, path));

const waits = new WeakMap<WorkflowNode, readonly PlacedWait[]>();

/** Looked for once: a definition does not change. */
function waitsOf(definition: WorkflowNode): readonly PlacedWait[] {
  let found = waits.get(definition);
  if (!found) {
    found = [...nodesOf(definition)].filter((placed): placed is PlacedWait => placed.node.kind === 'waitForEvent');
    waits.set(definition, found);
  }
  return found;
}

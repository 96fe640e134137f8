import {
  EventAwaited,
  EventExpected,
  EventKept,
  EventReceived,
  type DataOf,
  type DeliverEvent,
} from '@starter/contracts';
import { sortedJson, type Json, type WorkflowNode } from '../definition/definition.js';
import { anyItem, nodesOf, type PlacedNode } from '../definition/node-path.js';
import { BadReferenceError, resolve } from '../definition/reference.js';
import { derivedId } from './derived-id.js';
import type { Run } from './run.js';
import { valuesAt } from './values.js';
import { isActive, type StartedWorkflow } from './workflow.state.js';

type WaitNode = WorkflowNode & { readonly kind: 'waitForEvent' };
type PlacedWait = PlacedNode & { readonly node: WaitNode };

/**
 * Events are expected from the start of the workflow on wherever what they must match is known by then, because it refers to
 * the input only: what happens between the start and the wait is not lost.
 */
export function expectFromStart(run: Run): void {
  for (const { path, node } of waitsOf(run.state.definition)) {
    if (path.split('.').includes(anyItem) || !isActive(run.state, path)) continue;
    try {
      expect(run, node.event, matchOf(run.state, path, node));
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
  const { workflowId, expected, awaited } = run.state;
  const event = expected.get(correlation);
  if (event === undefined) return `workflow ${workflowId} expects no event ${correlation}`;
  let received = false;
  for (const path of awaited.get(correlation) ?? []) {
    if (!isAwaited(run.state, path)) continue;
    run.emit(EventReceived.of({ workflowId, path, correlation, data }));
    run.agenda.push({ do: 'leave', path });
    proceed(run);
    received = true;
  }
  return received || !mayBeAwaited(run.state, event) ? undefined : keep(run, correlation, data);
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
  run.emit(EventKept.of({ workflowId, correlation, data }));
}

/** @returns the correlation */
function expect(run: Run, event: string, match: Record<string, Json>): string {
  const { workflowId, expected } = run.state;
  const correlation = derivedId('event', event, sortedJson(match));
  if (!expected.has(correlation)) run.emit(EventExpected.of({ workflowId, correlation, event, match }));
  return correlation;
}

const matchOf = (state: StartedWorkflow, path: string, { match }: WaitNode): Record<string, Json> =>
  resolve(match, `${path} waitForEvent.match`, valuesAt(state, path)) as Record<string, Json>;

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

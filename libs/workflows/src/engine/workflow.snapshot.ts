import type { SnapshotPolicy } from '@starter/event-sourcing';
import { isList, isMap, isOrderedMap, isOrderedSet, isSet, List, Map, OrderedMap, OrderedSet, Set } from 'immutable';
import { z } from 'zod';
import { resultsOfMembers } from './values.js';
import type { StartedWorkflow, WorkflowState } from './workflow.state.js';

/** Fields whose values come from outside: they are JSON already, and are kept as they are. */
const fromOutside = new globalThis.Set(['definition', 'input', 'inputs', 'results', 'result', 'items', 'data']);

/**
 * The state of a workflow as JSON. Raise the version whenever its shape or meaning changes: `corpus.unit.spec.ts` tells. A large
 * group takes one after 500 events, 750, 1,125 and so on.
 */
export const workflowSnapshots: SnapshotPolicy<WorkflowState> = {
  version: 2,
  every: 500,
  growth: 0.5,
  // What is large takes its time, from a snapshot as well.
  loadSlowerThanMs: Infinity,
  schema: z.codec(z.unknown(), z.custom<WorkflowState>(), {
    encode: (state) => toJson(withoutGroups(state)),
    decode: (json, context) => {
      try {
        return withGroups(fromJson(json) as WorkflowState);
      } catch (error) {
        context.issues.push({ code: 'custom', input: json, message: String(error) });
        return z.NEVER;
      }
    },
  }),
};

/** The result of a group is made of those of its members: it is put together again instead of kept once more. */
function withoutGroups(state: WorkflowState): WorkflowState {
  if (state.status === 'new') return state;
  return { ...state, results: state.results.filterNot((_, path) => state.groups.has(path)) };
}

function withGroups(state: WorkflowState): WorkflowState {
  if (state.status === 'new') return state;
  const depth = (path: string) => path.split('.').length;
  // Groups in others first.
  const ended = [...state.groups.keys()]
    .filter((path) => state.ended.get(path) === 'succeeded')
    .sort((one, other) => depth(other) - depth(one));
  return ended.reduce<StartedWorkflow>(
    (before, path) => ({ ...before, results: before.results.set(path, resultsOfMembers(before, path)) }),
    state,
  );
}

/** Collections become objects with one field that says what they are; fields of the state begin with no `$`. */
function toJson(value: unknown, outside = false): unknown {
  const inside = outside ? (it: unknown) => it : toJson;
  const entries = (map: Map<unknown, unknown>) => [...map].map(([key, it]) => [key, inside(it)]);
  if (isOrderedMap(value)) return { $orderedMap: entries(value), outside };
  if (isMap(value)) return { $map: entries(value), outside };
  if (isOrderedSet(value)) return { $orderedSet: [...value] };
  if (isSet(value)) return { $set: [...value] };
  if (isList(value)) return { $list: [...value] };
  if (outside) return { $json: value };
  if (Array.isArray(value)) return value.map((it) => toJson(it));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, it]) => [key, toJson(it, fromOutside.has(key))]));
}

function fromJson(json: unknown): unknown {
  if (Array.isArray(json)) return json.map(fromJson);
  if (typeof json !== 'object' || json === null) return json;
  const tagged = json as Readonly<Record<string, never>>;
  const entries = (list: [unknown, unknown][]): [unknown, unknown][] =>
    tagged['outside'] ? list : list.map(([key, it]) => [key, fromJson(it)]);
  if (tagged['$orderedMap']) return OrderedMap(entries(tagged['$orderedMap']));
  if (tagged['$map']) return Map(entries(tagged['$map']));
  if (tagged['$orderedSet']) return OrderedSet(tagged['$orderedSet']);
  if (tagged['$set']) return Set(tagged['$set']);
  if (tagged['$list']) return List(tagged['$list']);
  if ('$json' in tagged) return tagged['$json'];
  return Object.fromEntries(Object.entries(json).map(([key, it]) => [key, fromJson(it)]));
}

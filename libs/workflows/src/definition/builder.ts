import type { Definition } from '@starter/contracts';
import { z } from 'zod';
import { workflowNode, type Backoff, type Json, type WorkflowNode } from './definition.js';
import type { Duration } from './duration.js';
import { GroupDraft, NodeDraft, TaskDraft, type AnyDraft } from './node-draft.js';
import { anyItem, rootPath } from './node-path.js';
import { refTo, type Ref, type Template } from './typed-reference.js';

export type { AnyDraft } from './node-draft.js';

/** A workflow as a developer writes it: its name, what starts it, and its definition as data. */
export interface Workflow<Schema extends z.ZodObject = z.ZodObject> {
  readonly name: string;
  /** Every event, or command to this service, of this kind starts one; without it a workflow starts only by its name. */
  readonly startsOn?: Definition<'event' | 'command', Schema>;
  readonly input: Schema;
  readonly definition: WorkflowNode;
}

/**
 * Describes a workflow. `build` gets a reference to the input and runs once, here: it describes what will happen and sees
 * no values. Inputs, results and references have their wire form (a date is an ISO text).
 * @throws Error naming the place that cannot be expressed as data
 */
export function workflow<Schema extends z.ZodObject>(
  name: string,
  starts: { readonly startsOn: Definition<'event' | 'command', Schema> } | { readonly input: Schema },
  build: (input: Ref<z.input<Schema>>) => AnyDraft,
): Workflow<Schema> {
  const contract = 'startsOn' in starts ? { startsOn: starts.startsOn, input: starts.startsOn.schema } : starts;
  try {
    return { name, ...contract, definition: definitionOf(build(refTo('input'))) };
  } catch (error) {
    throw new Error(`workflow ${name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

function definitionOf(draft: AnyDraft): WorkflowNode {
  const paths = new Map<object, string>();
  draft.place(rootPath, paths);
  const parsed = workflowNode.safeParse(draft.toNode(paths));
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error));
  return parsed.data;
}

/** A command to send and to wait for; any part of its input may be a reference. */
export function task<Schema extends z.ZodObject>(
  command: Definition<'command', Schema>,
  input: Template<z.input<Schema>>,
): TaskDraft {
  const { type, version, key } = command;
  const fields = { command: type, version, ...(key ? { key } : {}), input };
  return new TaskDraft({ kind: 'task', name: `task ${type}`, fields });
}

/** A step of a chain; as a function it gets a reference to the result of the step before. */
export type Step<Before, Result = unknown> = NodeDraft<Result> | ((before: Ref<Before>) => NodeDraft<Result>);

/** Steps one after the other; the first failure ends it. Its result is that of the last step. */
export function chain(): NodeDraft<null>;
export function chain<A>(a: NodeDraft<A>): NodeDraft<A>;
export function chain<A, B>(a: NodeDraft<A>, b: Step<A, B>): NodeDraft<B>;
export function chain<A, B, C>(a: NodeDraft<A>, b: Step<A, B>, c: Step<B, C>): NodeDraft<C>;
export function chain<A, B, C, D>(a: NodeDraft<A>, b: Step<A, B>, c: Step<B, C>, d: Step<C, D>): NodeDraft<D>;
export function chain<A, B, C, D, E>(
  a: NodeDraft<A>,
  b: Step<A, B>,
  c: Step<B, C>,
  d: Step<C, D>,
  e: Step<D, E>,
): NodeDraft<E>;
/** Of more steps the result is not typed; refer to those by name. */
export function chain(...steps: AnyDraft[]): NodeDraft;
export function chain(...steps: (AnyDraft | ((before: never) => AnyDraft))[]): AnyDraft {
  const children: AnyDraft[] = [];
  for (const step of steps) {
    const before = children.at(-1) as NodeDraft;
    children.push(typeof step === 'function' ? step(before.result() as never) : step);
  }
  return new NodeDraft({ kind: 'chain', children, childFields: (written) => ({ steps: written }) });
}

type ResultsOf<Members extends readonly AnyDraft[]> = {
  readonly [K in keyof Members]: Members[K] extends { readonly type?: infer Result } ? Result : unknown;
};

/** Members side by side; its result is the array of theirs, in their order. */
export const group = <Members extends readonly AnyDraft[]>(...members: Members): GroupDraft<ResultsOf<Members>> =>
  new GroupDraft({ kind: 'group', children: members, childFields: (children) => ({ members: children }) });

/**
 * A group, and then a body that gets the array of its results: the chain of the two. A header without members has an empty
 * array as its result, and the body runs at once.
 */
export const chord = <Results, Result>(header: GroupDraft<Results>, body: Step<Results, Result>): NodeDraft<Result> =>
  chain(header, body);

/** A group with one member for each item of an array that is known when it begins. */
export function forEach<Item, Result>(
  items: Ref<readonly Item[]>,
  member: (item: Ref<Item>) => NodeDraft<Result>,
): GroupDraft<readonly Result[]> {
  const identity = {};
  const shape = {
    kind: 'forEach',
    fields: { items },
    children: [member(refTo({ itemOf: identity }))],
    segment: anyItem,
    childFields: ([body]: readonly object[]) => ({ body }),
  };
  return new GroupDraft(shape, {}, identity);
}

/** Waits for the next event of this kind whose data has these values. Its result is the data of the event. */
export function waitForEvent<Schema extends z.ZodObject>(
  event: Definition<'event', Schema>,
  { match, timeout }: { readonly match: Partial<Template<z.input<Schema>>>; readonly timeout?: Duration },
): NodeDraft<z.input<Schema>> {
  const draft = new NodeDraft<z.input<Schema>>({ kind: 'waitForEvent', fields: { event: event.type, match } });
  return timeout === undefined ? draft : draft.timeout(timeout);
}

export const sleep = (duration: Duration): NodeDraft<null> => new NodeDraft({ kind: 'sleep', fields: { duration } });

/** Another workflow as a part of this one, pinned with it; its result is the result of that one. */
export function subWorkflow<Schema extends z.ZodObject>(
  { name, definition }: Workflow<Schema>,
  input: Template<z.input<Schema>>,
): NodeDraft<Json> {
  return new NodeDraft({ kind: 'subWorkflow', fields: { workflow: name, input }, childFields: () => ({ definition }) });
}

/** Conditions are data, too. */
export type ConditionDraft =
  | { readonly equals: readonly [unknown, unknown] }
  | { readonly lessThan: readonly [unknown, unknown] }
  | { readonly all: readonly ConditionDraft[] }
  | { readonly any: readonly ConditionDraft[] }
  | { readonly not: ConditionDraft };

/** Runs one node or the other; without another and when the condition does not hold, its result is `null`. */
export function when<Then>(condition: ConditionDraft, then: NodeDraft<Then>): NodeDraft<Then | null>;
export function when<Then, Otherwise>(
  condition: ConditionDraft,
  then: NodeDraft<Then>,
  otherwise: NodeDraft<Otherwise>,
): NodeDraft<Then | Otherwise>;
export function when(condition: ConditionDraft, ...children: AnyDraft[]): AnyDraft {
  const childFields = ([then, otherwise]: readonly object[]) => ({ then, ...(otherwise ? { otherwise } : {}) });
  return new NodeDraft({ kind: 'when', fields: { condition }, children, childFields });
}

export const equals = <T>(left: Ref<T>, right: Ref<NoInfer<T>> | NoInfer<T>): ConditionDraft => ({
  equals: [left, right],
});
export const lessThan = <T extends number | string>(
  left: Ref<T> | NoInfer<T>,
  right: Ref<T> | NoInfer<T>,
): ConditionDraft => ({ lessThan: [left, right] });
export const all = (...conditions: ConditionDraft[]): ConditionDraft => ({ all: conditions });
export const any = (...conditions: ConditionDraft[]): ConditionDraft => ({ any: conditions });
export const not = (condition: ConditionDraft): ConditionDraft => ({ not: condition });

/** The same wait before each attempt. */
export const fixed = (wait: Duration): Backoff => ({ first: wait, factor: 1 });
/** Each wait twice as long as the one before, at most `max`. */
export const exponential = (first: Duration, max?: Duration): Backoff => ({
  first,
  factor: 2,
  ...(max === undefined ? {} : { max }),
});

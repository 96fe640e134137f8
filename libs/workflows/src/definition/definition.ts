import { json } from '@starter/contracts';
import { z } from 'zod';
import { duration } from './duration.js';
import { rate } from './rate.js';

/** Values as they travel: a workflow's input, its templates and its results are in their wire form. */
export type Json = z.output<ReturnType<typeof z.json>>;

/** The same text for the same value, whatever the order of its fields. */
export const sortedJson = (value: Json): string =>
  JSON.stringify(value, (_, part: Json) =>
    typeof part === 'object' && part !== null && !Array.isArray(part)
      ? Object.fromEntries(Object.entries(part).sort(([one], [other]) => (one < other ? -1 : 1)))
      : part,
  );

/** JSON in which `{ "$ref": "input.email" }` or `{ "$ref": "results.0.1.messageId" }` stands for a value. */
const template = json;
const inputTemplate = z.record(z.string(), template);

/** How long to wait after attempt n fails: `first × factor^(n − 1)`, at most `max`. */
const backoff = z.strictObject({
  first: duration,
  factor: z.number().min(1).max(100).default(1),
  max: duration.exactOptional(),
});

const command = {
  kind: z.literal('task'),
  command: z.string().min(1),
  version: z.int().min(1),
  /** Field of the input that names the actor; without one each request is an actor of its own. */
  key: z.string().min(1).exactOptional(),
  input: inputTemplate,
  retry: z
    .strictObject({
      /** With the first one. */
      attempts: z.int().min(1),
      backoff: backoff.exactOptional(),
    })
    .exactOptional(),
  /** Of each attempt. */
  timeout: duration.exactOptional(),
};

/** A command that undoes what a node did; it has nothing that would undo it in turn. */
const compensation = z.strictObject(command);
const modifiers = {
  compensateWith: compensation.exactOptional(),
  /** The node has failed when it has not ended by then. */
  timeout: duration.exactOptional(),
};

/** Sends a command and waits for its reply, which is its result. */
const taskNode = z.strictObject({
  ...command,
  /** Shared by all tasks of the workflow with this command and this limit. */
  rateLimit: rate.exactOptional(),
  compensateWith: modifiers.compensateWith,
});

/** Runs its steps one after the other; its result is that of the last step, `null` when it has none. */
const chainNode = z.strictObject({
  kind: z.literal('chain'),
  get steps(): z.ZodType<WorkflowNode[]> {
    return z.array(workflowNode);
  },
  ...modifiers,
});

/** When a group has failed, and what becomes of its other members then. */
const policy = z.union([
  /** With its first member that fails; the others are cancelled. */
  z.literal('failFast'),
  /** When all have ended and one of them has failed. */
  z.literal('waitAll'),
  /** As soon as fewer than so many can succeed. Members that fail are undone at once and have the result `null`. */
  z.strictObject({ minSuccess: z.int().min(0) }),
]);

/** Runs its members side by side; its result is the array of theirs, in their order. */
const groupNode = z.strictObject({
  kind: z.literal('group'),
  get members(): z.ZodType<WorkflowNode[]> {
    return z.array(workflowNode);
  },
  policy: policy.default('failFast'),
  ...modifiers,
});

/** A group with one member for each item of an array; inside, `item.<path of this node>` is the item. */
const forEachNode = z.strictObject({
  kind: z.literal('forEach'),
  items: template,
  get body(): z.ZodType<WorkflowNode> {
    return workflowNode;
  },
  policy: policy.default('failFast'),
  ...modifiers,
});

/** Comparisons of templates; texts are compared with texts and numbers with numbers. */
export const condition = z.union([
  z.strictObject({ equals: z.tuple([template, template]) }),
  z.strictObject({ lessThan: z.tuple([template, template]) }),
  z.strictObject({
    get all(): z.ZodArray<z.ZodType<Condition>> {
      return z.array(condition);
    },
  }),
  z.strictObject({
    get any(): z.ZodArray<z.ZodType<Condition>> {
      return z.array(condition);
    },
  }),
  z.strictObject({
    get not(): z.ZodType<Condition> {
      return condition;
    },
  }),
]) as z.ZodType<Condition>;
export type Condition =
  | { equals: [Json, Json] }
  | { lessThan: [Json, Json] }
  | { all: Condition[] }
  | { any: Condition[] }
  | { not: Condition };

/** Runs one of two nodes; without the second its result may be `null`. */
const whenNode = z.strictObject({
  kind: z.literal('when'),
  condition,
  get then(): z.ZodType<WorkflowNode> {
    return workflowNode;
  },
  get otherwise(): z.ZodExactOptional<z.ZodType<WorkflowNode>> {
    return workflowNode.exactOptional();
  },
  ...modifiers,
});

/** Runs a node and, should that fail, undoes it and runs the other instead. */
const fallbackNode = z.strictObject({
  kind: z.literal('fallback'),
  get attempt(): z.ZodType<WorkflowNode> {
    return workflowNode;
  },
  get otherwise(): z.ZodType<WorkflowNode> {
    return workflowNode;
  },
  ...modifiers,
});

/** Runs another workflow, pinned like this one, in a scope of its own: inside, `input` and `results` are those of that one. */
const subWorkflowNode = z.strictObject({
  kind: z.literal('subWorkflow'),
  workflow: z.string().min(1),
  input: inputTemplate,
  get definition(): z.ZodType<WorkflowNode> {
    return workflowNode;
  },
  ...modifiers,
});

/** Does nothing for a while; its result is `null`. */
const sleepNode = z.strictObject({ kind: z.literal('sleep'), duration, compensateWith: modifiers.compensateWith });

/** Waits for an event whose data has these values; its result is the data of that event. */
const waitForEventNode = z.strictObject({
  kind: z.literal('waitForEvent'),
  event: z.string().min(1),
  match: inputTemplate,
  ...modifiers,
});

/**
 * A node of a workflow definition; the root node is the definition. A definition is data, so that an instance can keep the
 * one that it started with. Strict, because an older engine must refuse what it does not know instead of leaving it out.
 */
export const workflowNode: z.ZodType<WorkflowNode> = z.discriminatedUnion('kind', [
  taskNode,
  chainNode,
  groupNode,
  forEachNode,
  whenNode,
  fallbackNode,
  subWorkflowNode,
  sleepNode,
  waitForEventNode,
]);

export type Backoff = z.output<typeof backoff>;
export type GroupPolicy = z.output<typeof policy>;
export type CompensationNode = z.output<typeof compensation>;
export type WorkflowNode =
  | z.output<typeof taskNode>
  | ChainNode
  | GroupNode
  | ForEachNode
  | WhenNode
  | FallbackNode
  | SubWorkflowNode
  | z.output<typeof sleepNode>
  | z.output<typeof waitForEventNode>;

// Written out, because the compiler cannot infer what refers to itself.
type Modified<Kind extends string> = { kind: Kind; compensateWith?: CompensationNode; timeout?: string };
type ChainNode = Modified<'chain'> & { steps: WorkflowNode[] };
type GroupNode = Modified<'group'> & { members: WorkflowNode[]; policy: GroupPolicy };
type ForEachNode = Modified<'forEach'> & { items: Json; body: WorkflowNode; policy: GroupPolicy };
type WhenNode = Modified<'when'> & { condition: Condition; then: WorkflowNode; otherwise?: WorkflowNode };
type FallbackNode = Modified<'fallback'> & { attempt: WorkflowNode; otherwise: WorkflowNode };
type SubWorkflowNode = Modified<'subWorkflow'> & {
  workflow: string;
  input: Record<string, Json>;
  definition: WorkflowNode;
};

/** The published JSON schema of a definition. */
export const definitionSchema = (): unknown => z.toJSONSchema(workflowNode, { io: 'input' });

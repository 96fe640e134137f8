import { z } from 'zod';

/** Values as they travel: a workflow's input, its templates and its results are in their wire form. */
export type Json = z.output<ReturnType<typeof z.json>>;

const command = {
  kind: z.literal('task'),
  command: z.string().min(1),
  version: z.int().min(1),
  /** Field of the input that names the actor; without one each request is an actor of its own. */
  key: z.string().min(1).exactOptional(),
  /** JSON in which `{ "$ref": "input.email" }` or `{ "$ref": "results.0.1.messageId" }` stands for a value. */
  input: z.record(z.string(), z.json()),
};

/** A command that undoes what a node did; it has nothing that would undo it in turn. */
const compensation = z.strictObject(command);
const compensateWith = compensation.exactOptional();

/** Sends a command and waits for its reply. */
const taskNode = z.strictObject({ ...command, compensateWith });

/** Runs its steps one after the other; its result is that of the last step, `null` when it has none. */
const chainNode = z.strictObject({
  kind: z.literal('chain'),
  get steps(): z.ZodArray<typeof workflowNode> {
    return z.array(workflowNode);
  },
  compensateWith,
});

/**
 * A node of a workflow definition; the root node is the definition. A definition is data, so that an instance can keep the
 * one that it started with. Strict, because an older engine must refuse what it does not know instead of leaving it out.
 */
export const workflowNode = z.discriminatedUnion('kind', [taskNode, chainNode]);

export type CompensationNode = z.output<typeof compensation>;
export type TaskNode = z.output<typeof taskNode>;
export type ChainNode = z.output<typeof chainNode>;
export type WorkflowNode = z.output<typeof workflowNode>;

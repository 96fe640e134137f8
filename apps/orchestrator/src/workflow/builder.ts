import type { Definition } from '@starter/contracts';
import type { MessageDefinition } from '@starter/messaging';
import { z } from 'zod';
import { workflowNode, type WorkflowNode } from './definition.js';
import { childPath, rootPath } from './node-path.js';
import { pointerOf, refTo, type Ref, type Template } from './typed-reference.js';

type EventDefinition<Schema extends z.ZodObject> = Definition<'event', Schema>;

/** What a definition keeps of the contract of a command. */
export type CommandContract = Pick<MessageDefinition, 'type' | 'version' | 'key'>;

/** A workflow as a developer writes it: its name, what starts it, and its definition as data. */
export interface Workflow {
  readonly name: string;
  /** Every event of this kind starts one; without it a workflow starts only when somebody asks. */
  readonly startsOn?: MessageDefinition;
  readonly input: z.ZodObject;
  readonly definition: WorkflowNode;
}

/**
 * Describes a workflow. `build` gets a reference to the input and runs once, here: it describes what will happen and sees
 * no values. Inputs, results and references have their wire form (a date is an ISO text).
 * @throws Error naming the place that cannot be expressed as data
 */
export function workflow<Schema extends z.ZodObject>(
  name: string,
  starts: { readonly startsOn: EventDefinition<Schema> } | { readonly input: Schema },
  build: (input: Ref<z.input<Schema>>) => NodeDraft,
): Workflow {
  const contract = 'startsOn' in starts ? { startsOn: starts.startsOn, input: starts.startsOn.schema } : starts;
  try {
    return { name, ...contract, definition: definitionOf(build(refTo('input'))) };
  } catch (error) {
    throw new Error(`workflow ${name}: ${error instanceof Error ? error.message : String(error)}`, { cause: error });
  }
}

function definitionOf(draft: NodeDraft): WorkflowNode {
  const paths = new Map<object, string>();
  draft.place(rootPath, paths);
  const parsed = workflowNode.safeParse(draft.toNode(paths));
  if (!parsed.success) throw new Error(z.prettifyError(parsed.error));
  return parsed.data;
}

/** A command to send and to wait for; any part of its input may be a reference. */
export const task = <Schema extends z.ZodObject>(
  command: Definition<'command', Schema>,
  input: Template<z.input<Schema>>,
): TaskDraft => new TaskDraft(command, input);

/** Steps one after the other; the first failure ends it. */
export const chain = (...steps: NodeDraft[]): ChainDraft => new ChainDraft(steps);

/** A node before it has its place in a tree. */
export type NodeDraft = TaskDraft | ChainDraft;

export class TaskDraft {
  constructor(
    private readonly command: CommandContract,
    private readonly input: unknown,
    private readonly compensation?: TaskDraft,
    /** Shared by the copies that `compensateWith` makes, so that references to the result find them. */
    private readonly identity: object = {},
  ) {}

  /**
   * Undoes the task when the workflow fails after the task was requested, whatever became of the request: it must accept
   * that there is nothing to undo.
   */
  compensateWith(compensation: TaskDraft): TaskDraft {
    return new TaskDraft(this.command, this.input, compensation, this.identity);
  }

  /** Reference to what the task answers: the data of the last event that its command led to. */
  result<Schema extends z.ZodObject>(_event: EventDefinition<Schema>): Ref<z.input<Schema>> {
    return refTo({ resultOf: this.identity });
  }

  place(path: string, paths: Map<object, string>): void {
    const other = paths.get(this.identity);
    if (other) throw new Error(`one task stands at ${other} and at ${path}; make a task for each place`);
    paths.set(this.identity, path);
  }

  toNode(paths: ReadonlyMap<object, string>): object {
    const { type: command, version, key } = this.command;
    const input = write(this.input, paths, `task ${command}`);
    return { kind: 'task', command, version, ...(key ? { key } : {}), input, ...undo(this.compensation, paths) };
  }
}

export class ChainDraft {
  constructor(
    private readonly steps: readonly NodeDraft[],
    private readonly compensation?: TaskDraft,
  ) {}

  /** Undoes the chain as a whole when the workflow fails after the first request inside it; after those of its steps. */
  compensateWith(compensation: TaskDraft): ChainDraft {
    return new ChainDraft(this.steps, compensation);
  }

  place(path: string, paths: Map<object, string>): void {
    this.steps.forEach((step, index) => step.place(childPath(path, index), paths));
  }

  toNode(paths: ReadonlyMap<object, string>): object {
    return { kind: 'chain', steps: this.steps.map((step) => step.toNode(paths)), ...undo(this.compensation, paths) };
  }
}

const undo = (compensation: TaskDraft | undefined, paths: ReadonlyMap<object, string>) =>
  compensation ? { compensateWith: compensation.toNode(paths) } : {};

/** References become data, everything else must be JSON already. */
function write(value: unknown, paths: ReadonlyMap<object, string>, place: string): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const pointer = pointerOf(value);
  if (pointer) {
    const { origin, fields } = pointer;
    const path = origin === 'input' ? undefined : paths.get(origin.resultOf);
    if (origin !== 'input' && path === undefined) {
      throw new Error(`${place} refers to the result of a task that is not in the workflow; add the task to it`);
    }
    return { $ref: [...(path === undefined ? ['input'] : ['results', path]), ...fields].join('.') };
  }
  if (Array.isArray(value)) return value.map((item, index) => write(item, paths, `${place}.${index}`));
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, write(item, paths, `${place}.${key}`)]));
}

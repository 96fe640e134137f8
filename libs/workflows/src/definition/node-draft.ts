import type { Definition } from '@starter/contracts';
import type { z } from 'zod';
import type { Backoff, GroupPolicy } from './definition.js';
import type { Duration } from './duration.js';
import { childPath } from './node-path.js';
import type { RateText } from './rate.js';
import { refTo, write, type Ref } from './typed-reference.js';

type EventDefinition<Schema extends z.ZodObject> = Definition<'event', Schema>;

/** Any node before it has its place in a tree. */
export interface AnyDraft {
  /** Tells the paths of the node and of those in it. */
  place(path: string, paths: Map<object, string>): void;
  /** The node as data. */
  toNode(paths: ReadonlyMap<object, string>): object;
}

/** What a kind of node says about itself. */
export interface Shape {
  readonly kind: string;
  /** Fields that may hold references. */
  readonly fields?: Readonly<Record<string, unknown>>;
  readonly children?: readonly AnyDraft[];
  /** What the last part of the paths of the children is; by default their index. */
  readonly segment?: string;
  /** Puts the written children where the definition has them. */
  readonly childFields?: (children: readonly object[]) => object;
  /** How errors call it. */
  readonly name?: string;
}

interface Modifiers {
  readonly compensateWith?: TaskDraft;
  readonly timeout?: Duration;
  readonly retry?: { readonly attempts: number; readonly backoff?: Partial<Backoff> };
  readonly policy?: GroupPolicy;
  readonly rateLimit?: RateText;
}

type Paths = ReadonlyMap<object, string>;

/** `Result` is what other nodes can refer to. */
export class NodeDraft<Result = unknown> implements AnyDraft {
  /** Only for the compiler. */
  declare readonly type?: Result;

  constructor(
    protected readonly shape: Shape,
    protected readonly modifiers: Modifiers = {},
    /** Shared by the copies that modifiers make, so that references to the result find them. */
    protected readonly identity: object = {},
  ) {}

  /**
   * Undoes the node as a whole when what it is part of fails after the first request inside it, whatever became of that
   * request, and after what is inside has been undone: it must accept that there is nothing to undo.
   */
  compensateWith(compensation: TaskDraft): this {
    return this.modified({ compensateWith: compensation });
  }

  /** The node has failed when it has not ended so long after its beginning; of a task, each attempt. */
  timeout(duration: Duration): this {
    return this.modified({ timeout: duration });
  }

  /** When the node fails it is undone and the other runs in its place. */
  orElse<Other>(otherwise: NodeDraft<Other>): NodeDraft<Result | Other> {
    const childFields = ([attempt, other]: readonly object[]) => ({ attempt, otherwise: other });
    return new NodeDraft({ kind: 'fallback', children: [this, otherwise], childFields });
  }

  /** Reference to the result; of a task that did not say what it answers, by the event that its command leads to last. */
  result(): Ref<Result>;
  result<Schema extends z.ZodObject>(event: EventDefinition<Schema>): Ref<z.input<Schema>>;
  result(): unknown {
    return refTo({ resultOf: this.identity });
  }

  place(path: string, paths: Map<object, string>): void {
    const other = paths.get(this.identity);
    if (other) throw new Error(`one ${this.shape.kind} stands at ${other} and at ${path}; make one for each place`);
    paths.set(this.identity, path);
    const { children = [], segment } = this.shape;
    children.forEach((child, index) => child.place(childPath(path, segment ?? index), paths));
  }

  toNode(paths: Paths): object {
    const { kind, fields = {}, children = [], childFields, name = kind } = this.shape;
    const { compensateWith, ...others } = this.modifiers;
    return {
      kind,
      ...(write(fields, paths, name) as object),
      ...childFields?.(children.map((child) => child.toNode(paths))),
      ...others,
      ...(compensateWith ? { compensateWith: compensateWith.toNode(paths) } : {}),
    };
  }

  protected modified(modifiers: Modifiers): this {
    const Draft = this.constructor as new (...parts: [Shape, Modifiers, object]) => this;
    return new Draft(this.shape, { ...this.modifiers, ...modifiers }, this.identity);
  }
}

export class TaskDraft<Result = unknown> extends NodeDraft<Result> {
  /** Says what the task answers, which is the data of the last event that its command leads to. */
  answering<Schema extends z.ZodObject>(_event: EventDefinition<Schema>): TaskDraft<z.input<Schema>> {
    return this as unknown as TaskDraft<z.input<Schema>>;
  }

  /** So many attempts, with the first; each is a command of its own. Without it there is one. */
  retry(retry: { readonly attempts: number; readonly backoff?: Partial<Backoff> }): this {
    return this.modified({ retry });
  }

  /** Requested so often at most; shared by all tasks of a run with the same command and limit. What is over it waits. */
  rateLimit(rateLimit: RateText): this {
    return this.modified({ rateLimit });
  }
}

/** Fails with its first member that fails, and cancels the others, unless it is told otherwise. */
export class GroupDraft<Results = readonly unknown[]> extends NodeDraft<Results> {
  /** All members run to their end; it fails when one of them has failed. */
  waitAll(): this {
    return this.modified({ policy: 'waitAll' });
  }

  /** It fails when fewer than `count` can succeed. A member that fails is undone at once, and its result is `null`. */
  minSuccess(count: number): GroupDraft<{ [K in keyof Results]: Results[K] | null }> {
    return this.modified({ policy: { minSuccess: count } }) as never;
  }
}

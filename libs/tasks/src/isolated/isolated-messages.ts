import type { Message } from '@starter/messaging';
import type { Progress, TaskContext } from '../task-context.js';

/** What a handler gets that runs in a process or thread of its own: everything but the service's database. */
export type IsolatedContext<Data = unknown> = Omit<
  TaskContext<Data>,
  'fence' | 'inTransaction' | 'complete' | 'saveState'
> & {
  saveState(state: unknown): Promise<void>;
};

/** The default export of the module of an isolated task. */
export type IsolatedHandler<Data = unknown> = (context: IsolatedContext<Data>) => Promise<unknown>;

export interface FlatError {
  readonly name: string;
  readonly message: string;
  /** Of `retry`. */
  readonly afterMs?: number | undefined;
}

/** To the worker; cloned by structure, so that dates stay dates. */
export type ToWorker =
  | { readonly kind: 'run'; readonly module: string; readonly given: Given }
  | { readonly kind: 'abort'; readonly reason: FlatError }
  | { readonly kind: 'saved'; readonly error?: FlatError };

export interface Given {
  readonly data: unknown;
  readonly message: Message;
  readonly attempt: number;
  readonly savedState: unknown;
}

/** From the worker. */
export type FromWorker =
  | { readonly kind: 'said'; readonly progress?: Progress | undefined }
  | { readonly kind: 'save'; readonly state: unknown }
  | { readonly kind: 'result'; readonly result: unknown }
  | { readonly kind: 'error'; readonly error: FlatError };

export function flatten(error: unknown): FlatError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) };
  return { name: error.name, message: error.message, afterMs: (error as { afterMs?: number }).afterMs };
}

/** Triage goes by the name. */
export const unflatten = ({ name, message }: FlatError): Error => Object.assign(new Error(message), { name });

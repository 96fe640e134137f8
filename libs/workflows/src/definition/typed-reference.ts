import type { Json } from './definition.js';

const target: unique symbol = Symbol('what a reference points at');

/** Where a reference begins: the workflow's input, the result of a node, or an item of a forEach; nodes are told by identity. */
export type Origin = 'input' | { readonly resultOf: object } | { readonly itemOf: object };

interface Pointer<T> {
  readonly origin: Origin;
  readonly fields: readonly string[];
  /** Only for the compiler. */
  readonly type?: T;
}

// Any JSON (and `unknown`) is left out of the recursion over fields, which would not end.
type Fields<T> = Json extends T ? unknown : T extends object ? { readonly [K in keyof T]-?: Ref<T[K]> } : unknown;
type Parts<T> = T extends object ? { readonly [K in keyof T]: Template<T[K]> } : T;
type AnyTemplate = Ref<Json> | string | number | boolean | null | readonly AnyTemplate[] | AnyParts;
interface AnyParts {
  readonly [key: string]: AnyTemplate;
}

/** Stands for a value of this type that is known when the workflow runs; its fields are references, too. */
export type Ref<T> = { readonly [target]: Pointer<T> } & Fields<T>;

/** A value in which references may stand for any part of it. */
export type Template<T> = Json extends T ? AnyTemplate : Ref<T> | Parts<T>;

export function refTo<T>(origin: Origin, fields: readonly string[] = []): Ref<T> {
  const pointer: Pointer<T> = { origin, fields };
  return new Proxy({} as Ref<T>, {
    get(_, key) {
      if (key === target) return pointer;
      if (key === Symbol.toPrimitive) {
        throw new Error(`${describe(pointer)} has no value yet: pass the reference itself, not a text made of it`);
      }
      if (typeof key === 'symbol') return undefined;
      if (key.includes('.')) throw new Error(`a reference cannot name the field "${key}": dots separate fields`);
      return refTo(origin, [...fields, key]);
    },
  });
}

/** What a reference points at; undefined for any other value. */
export const pointerOf = (value: object): Pointer<unknown> | undefined => (value as Partial<Ref<unknown>>)[target];

const describe = ({ origin, fields }: Pointer<unknown>): string =>
  [origin === 'input' ? 'input' : 'itemOf' in origin ? 'an item' : 'a result', ...fields].join('.');

/**
 * References become data, everything else must be JSON already.
 * @param paths of nodes by identity
 * @param place names the template in errors
 * @throws Error when a reference leads to a node that has no path
 */
export function write(value: unknown, paths: ReadonlyMap<object, string>, place: string): unknown {
  if (typeof value !== 'object' || value === null) return value;
  const pointer = pointerOf(value);
  if (pointer) return { $ref: [...startOf(pointer.origin, paths, place), ...pointer.fields].join('.') };
  if (Array.isArray(value)) return value.map((item, index) => write(item, paths, `${place}.${index}`));
  return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, write(item, paths, `${place}.${key}`)]));
}

function startOf(origin: Origin, paths: ReadonlyMap<object, string>, place: string): string[] {
  if (origin === 'input') return ['input'];
  const [what, node] =
    'itemOf' in origin ? (['item', origin.itemOf] as const) : (['results', origin.resultOf] as const);
  const path = paths.get(node);
  if (path !== undefined) return [what, path];
  throw new Error(`${place} refers to the result of a task that is not in the workflow; add the task to it`);
}

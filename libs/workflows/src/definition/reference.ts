import type { Json, WorkflowNode } from './definition.js';
import { sizeOf } from './json-size.js';
import { anyItem, childAt, childPath, rootPath } from './node-path.js';

/** What a `$ref` points at; paths are those of the definition that it stands in. */
export type Target =
  | { readonly from: 'input'; readonly fields: readonly string[] }
  /** `results` of a node, or `item` of a forEach. */
  | { readonly from: 'results' | 'item'; readonly path: string; readonly fields: readonly string[] };

/** The values that references are resolved from. */
export interface Values {
  /** The definition that the references stand in. */
  readonly definition: WorkflowNode;
  /** Of a template with its values. */
  readonly mostBytes: number;
  /** The value whose fields a reference names; undefined while there is none. */
  start(target: Target): Json | undefined;
}

/** Longer ones name nothing. */
const longestReference = 1_000;
/** Places are made of the keys of values, which may be long. */
const longestMessage = 1_000;

/** A reference that is malformed or has no value; the message names its place in the definition. */
export class BadReferenceError extends Error {
  override readonly name = 'BadReferenceError';

  constructor(message: string) {
    super(message.slice(0, longestMessage));
  }
}

/**
 * Puts in a value for each reference of a template. The values are not copied, and what comes of it is weighed before anybody
 * reads it.
 * @param place names the template in errors: `0.1 email.send`
 * @throws BadReferenceError at the first reference without a value, or when it becomes too large
 */
export function resolve(template: Json, place: string, values: Values): Json {
  const resolved = mapReferences(template, place, (reference, at) => {
    const target = targetOf(values.definition, reference, at);
    const start = values.start(target);
    return target.fields.reduce((value, field) => fieldOf(value, field, `${at}: "${reference}" has no value`), start);
  });
  refuseTooLarge(resolved, place, values.mostBytes);
  return resolved;
}

/** @throws BadReferenceError */
export function refuseTooLarge(resolved: Json, place: string, mostBytes: number): void {
  const bytes = sizeOf(resolved);
  if (bytes <= mostBytes) return;
  const what = `${place}: takes ${bytes} bytes with the values that it refers to, and ${mostBytes} are allowed`;
  throw new BadReferenceError(`${what}; refer to less of them`);
}

/** Every reference in a template with its place. */
export function referencesIn(template: Json, place: string): { readonly reference: string; readonly at: string }[] {
  const found: { reference: string; at: string }[] = [];
  mapReferences(template, place, (reference, at) => {
    found.push({ reference, at });
    return null;
  });
  return found;
}

/**
 * Reads `input.<fields>`, `results.<path>.<fields>` or `item.<path>.<fields>`. A path and the fields behind it are told apart
 * by the tree: a path goes on as long as the node has children. It does not lead into another workflow.
 * @throws BadReferenceError
 */
export function targetOf(definition: WorkflowNode, reference: string, at: string): Target {
  if (reference.length > longestReference) {
    const what = `${at}: a reference has ${reference.length} characters, and ${longestReference} are allowed`;
    throw new BadReferenceError(`${what}; use shorter names`);
  }
  const [from, ...rest] = reference.split('.');
  if (from === 'input') return { from, fields: rest };
  if ((from !== 'results' && from !== 'item') || rest.shift() !== rootPath) {
    throw new BadReferenceError(
      `${at}: "${reference}" is no reference; write input.<field>, results.<path>.<field> or item.<path>.<field>`,
    );
  }
  let [path, node] = [rootPath, definition];
  while (rest[0] !== undefined && leadsOn(node, rest[0])) {
    const index = rest.shift() as string;
    const child = childAt(node, index);
    path = childPath(path, index);
    if (!child) {
      throw new BadReferenceError(`${at}: "${reference}" names the place ${path}, which the definition lacks`);
    }
    node = child;
  }
  if (from === 'item' && node.kind !== 'forEach') {
    throw new BadReferenceError(`${at}: "${reference}" names the place ${path}, which is no forEach and has no items`);
  }
  return { from, path, fields: rest };
}

function leadsOn(node: WorkflowNode, segment: string): boolean {
  switch (node.kind) {
    case 'forEach':
      return segment === anyItem;
    case 'chain':
    case 'group':
    case 'when':
    case 'fallback':
      return /^\d+$/.test(segment);
    case 'subWorkflow':
    case 'task':
    case 'sleep':
    case 'waitForEvent':
      return false;
  }
}

/**
 * A template with something else in the place of each reference.
 * @throws BadReferenceError when a reference is malformed, or nothing takes its place
 */
export function mapReferences(
  template: Json,
  at: string,
  replace: (reference: string, at: string) => Json | undefined,
): Json {
  if (typeof template !== 'object' || template === null) return template;
  if (Array.isArray(template)) return template.map((item, index) => mapReferences(item, `${at}.${index}`, replace));
  if (Object.hasOwn(template, '$ref')) {
    const { $ref: reference, ...others } = template;
    if (typeof reference !== 'string' || Object.keys(others).length > 0) {
      throw new BadReferenceError(`${at}: a reference is an object with a text "$ref" and nothing else`);
    }
    const value = replace(reference, at);
    if (value === undefined) throw new BadReferenceError(`${at}: "${reference}" has no value`);
    return value;
  }
  return Object.fromEntries(
    Object.entries(template).map(([key, value]) => [key, mapReferences(value, `${at}.${key}`, replace)]),
  );
}

function fieldOf(value: Json | undefined, field: string, problem: string): Json {
  const inside = typeof value === 'object' && value !== null && Object.hasOwn(value, field);
  const found = inside ? (value as Record<string, Json>)[field] : undefined;
  if (found === undefined) throw new BadReferenceError(`${problem}; there is no field "${field}"`);
  return found;
}

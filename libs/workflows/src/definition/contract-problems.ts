import type { MessageDefinition } from '@starter/messaging';
import { z } from 'zod';
import { allowsFields, commandsOf, mostProblems, ownCommandsOf, type PlacedCommand } from './check-definition.js';
import type { Json, WorkflowNode } from './definition.js';
import { sizeOf } from './json-size.js';
import { nodesOf } from './node-path.js';
import { BadReferenceError, mapReferences, referencesIn, refuseTooLarge, resolve, targetOf } from './reference.js';

/** What workflows may send and wait for. */
export interface Contracts {
  readonly commands: readonly Contract[];
  readonly events: readonly Contract[];
}
export type Contract = MessageDefinition & { readonly schema: z.ZodType };

/** What of a definition the services that it needs would refuse, each with its place. */
export function contractProblems(definition: WorkflowNode, { commands, events }: Contracts): string[] {
  return [
    ...commandsOf(definition).flatMap((placed) => problemsOfCommand(placed, commands)),
    ...[...nodesOf(definition)].flatMap(({ path, node }) =>
      node.kind === 'waitForEvent' ? problemsOfWait(`${path} waitForEvent`, node.event, node.match, events) : [],
    ),
  ];
}

/** References to the input for which a schema has no field. */
export function inputSchemaProblems(definition: WorkflowNode, input: z.ZodType): string[] {
  const schema = jsonSchemaOf(input);
  return ownCommandsOf(definition).flatMap(({ place, command }) =>
    referencesIn(command.input, place).flatMap(({ reference, at }) => {
      const { from, fields } = targetOf(definition, reference, at);
      if (from !== 'input' || allowsFields(schema, fields)) return [];
      return [`${at}: the input has no "${fields.join('.')}"; correct the reference or the input's schema`];
    }),
  );
}

/** Bytes of commands that are looked at with the input in place; the services look at all of them when they arrive. */
const mostLookedAt = 250_000;

/**
 * What the services would refuse when the workflow runs with this input. A value is put in the place of a reference without
 * being copied, and what comes of it is weighed before anybody reads it: the work does not grow with references × input.
 * @param mostBytes of one command
 */
export function inputProblems(
  definition: WorkflowNode,
  input: Json,
  { commands }: Contracts,
  mostBytes: number,
): string[] {
  let left = mostLookedAt;
  const values = { definition, mostBytes, start: () => input };
  return ownCommandsOf(definition).flatMap(({ path, place, command }) => {
    try {
      const known = mapReferences(command.input, place, (reference, at) => {
        const target = targetOf(definition, reference, at);
        return target.from === 'input' ? resolve({ $ref: reference }, at, values) : { $ref: reference };
      });
      refuseTooLarge(known, place, mostBytes);
      const bytes = sizeOf(known);
      if (bytes > left) return [];
      left -= bytes;
      const given = { ...command, input: known as Record<string, Json> };
      return problemsOfCommand({ path, place, command: given }, commands);
    } catch (error) {
      if (error instanceof BadReferenceError) return [`${error.message}; pass it in the input`];
      throw error;
    }
  });
}

function problemsOfCommand({ place, command }: PlacedCommand, known: readonly Contract[]): string[] {
  const { command: type, version, key, input } = command;
  const contract = known.find((candidate) => candidate.type === type);
  if (!contract) return [`${place}: the command is unknown; add it to the commands that workflows may send`];
  if (contract.version !== version) return [`${place}: v${version} is unknown; the contract has v${contract.version}`];
  if (contract.key !== key) return [`${place}: its key is "${key}"; the contract says "${contract.key}"`];
  const { error } = z.safeDecode(contract.schema, input);
  const problems: string[] = [];
  for (const issue of error?.issues ?? []) {
    if (problems.length === mostProblems) break;
    if (isOfReference(issue, input)) continue;
    problems.push(`${[place, ...issue.path.map(String)].join('.')}: ${issue.message}`);
  }
  return problems;
}

function problemsOfWait(
  place: string,
  type: string,
  match: Record<string, Json>,
  known: readonly Contract[],
): string[] {
  const contract = known.find((candidate) => candidate.type === type);
  if (!contract) return [`${place}: the event ${type} is unknown; add it to those that workflows may wait for`];
  const schema = jsonSchemaOf(contract.schema);
  return Object.keys(match)
    .filter((field) => !allowsFields(schema, [field]))
    .map((field) => `${place}.match: ${type} has no "${field}"; name fields of its data`);
}

/** Whether it concerns a value that is not known yet, because a reference stands for it or for a part of it. */
function isOfReference({ code, path }: z.core.$ZodIssue, input: Json): boolean {
  const value = path.reduce<Json | undefined>(
    (at, field) => (typeof at === 'object' && at !== null ? (at as Record<string, Json>)[String(field)] : undefined),
    input,
  );
  if (value === undefined) return false;
  const references = referencesIn(value, '');
  return code === 'unrecognized_keys' ? references.some(({ at }) => at === '') : references.length > 0;
}

const jsonSchemas = new WeakMap<z.ZodType, Json>();

/** Made once: a schema does not change. */
function jsonSchemaOf(schema: z.ZodType): Json {
  const made = jsonSchemas.get(schema) ?? (z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Json);
  jsonSchemas.set(schema, made);
  return made;
}

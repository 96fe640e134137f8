import type { CompensationNode, Json, WorkflowNode } from './definition.js';
import { nodeAt, nodesOf } from './node-path.js';
import { BadReferenceError, referencesIn, targetOf } from './reference.js';

/** A task or a compensation of a definition, and how errors call it. */
export interface PlacedCommand {
  readonly path: string;
  /** `0.1 email.send`, `0.1 compensateWith user.deactivate` */
  readonly place: string;
  readonly command: CompensationNode;
}

/** Every command that the definition may send. */
export function commandsOf(definition: WorkflowNode): PlacedCommand[] {
  return [...nodesOf(definition)].flatMap(({ path, node }) => [
    ...(node.kind === 'task' ? [{ path, place: `${path} ${node.command}`, command: node }] : []),
    ...(node.compensateWith
      ? [{ path, place: `${path} compensateWith ${node.compensateWith.command}`, command: node.compensateWith }]
      : []),
  ]);
}

/** What is wrong with a definition by itself, each with its place; empty when it can run. */
export function problemsOf(definition: WorkflowNode): string[] {
  return commandsOf(definition).flatMap((placed) => {
    const { place, command } = placed;
    const missingKey = command.key !== undefined && !Object.hasOwn(command.input, command.key);
    return [
      ...(missingKey ? [`${place}: the input has no "${command.key}", which names the actor; add it`] : []),
      ...problemsOfReferences(definition, placed),
    ];
  });
}

function problemsOfReferences(definition: WorkflowNode, { path, place, command }: PlacedCommand): string[] {
  try {
    return referencesIn(command.input, place).flatMap(({ reference, at }) => {
      const target = targetOf(definition, reference, at);
      if (target.from === 'input' || endsBefore(definition, target.path, path)) return [];
      return [
        `${at}: "${reference}" is not known when ${path} starts; refer to the input or to an earlier step ` +
          '(a compensation, too: it also runs when the reply of what it undoes is lost)',
      ];
    });
  } catch (error) {
    if (error instanceof BadReferenceError) return [error.message];
    throw error;
  }
}

/** Whether the node at `earlier` has certainly ended when the one at `path` starts. */
function endsBefore(definition: WorkflowNode, earlier: string, path: string): boolean {
  const [one, other] = [earlier.split('.'), path.split('.')];
  const fork = one.findIndex((segment, index) => segment !== other[index]);
  if (fork < 1 || other[fork] === undefined) return false;
  const container = nodeAt(definition, one.slice(0, fork).join('.'));
  return container.kind === 'chain' && Number(one[fork]) < Number(other[fork]);
}

/** Whether a JSON schema allows these fields; what it leaves open is allowed. */
export function allowsFields(schema: Json | undefined, fields: readonly string[]): boolean {
  const [field, ...rest] = fields;
  if (field === undefined || typeof schema !== 'object' || schema === null || Array.isArray(schema)) return true;
  const { properties } = schema;
  if (typeof properties !== 'object' || properties === null || Array.isArray(properties)) return true;
  return Object.hasOwn(properties, field) && allowsFields(properties[field], rest);
}

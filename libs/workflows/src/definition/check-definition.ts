import type { z } from 'zod';
import { templatesIn } from './condition.js';
import { workflowNode, type CompensationNode, type Json, type WorkflowNode } from './definition.js';
import { durationMs } from './duration.js';
import { defaultLimits, type WorkflowLimits } from './limits.js';
import {
  anyItem,
  childPath,
  nodeAt,
  nodesDownTo,
  nodesInScope,
  nodesOf,
  rootPath,
  type PlacedNode,
} from './node-path.js';
import { BadReferenceError, referencesIn, targetOf, type Target } from './reference.js';
import { sizeProblems } from './size-problems.js';

/** More would help nobody. */
export const mostProblems = 20;

/** Places are made of keys, which may be long. */
const longestProblem = 1_000;

/** What is worth telling of what is wrong. */
export const toTell = (problems: readonly string[]): string[] =>
  problems.slice(0, mostProblems).map((text) => text.slice(0, longestProblem));

/** A definition from somewhere else, checked; or what is wrong with it, each with its place. */
export function readDefinition(
  json: unknown,
  limits: WorkflowLimits = defaultLimits,
): { readonly definition: WorkflowNode } | { readonly problems: readonly string[] } {
  const tooLarge = sizeProblems(json, limits);
  if (tooLarge.length > 0) return { problems: tooLarge };
  const parsed = workflowNode.safeParse(json);
  const problems = parsed.success
    ? problemsOf(parsed.data, limits)
    : parsed.error.issues.slice(0, mostProblems).map(textOf);
  return parsed.success && problems.length === 0 ? { definition: parsed.data } : { problems: toTell(problems) };
}

const textOf = ({ path, message }: z.core.$ZodIssue): string =>
  `${path.join('.') || 'root'}: ${message}; see the schema of definitions`;

/** A task or a compensation of a definition, and how errors call it. */
export interface PlacedCommand {
  readonly path: string;
  /** `0.1 email.send`, `0.1 compensateWith user.deactivate` */
  readonly place: string;
  readonly command: CompensationNode;
}

/** Every command that the definition may send. */
export const commandsOf = (definition: WorkflowNode): PlacedCommand[] => [...nodesOf(definition)].flatMap(commandsAt);

/** Not those of sub-workflows, whose input is another one. */
export const ownCommandsOf = (definition: WorkflowNode): PlacedCommand[] =>
  [...nodesInScope(definition)].flatMap(commandsAt);

function commandsAt({ path, node }: PlacedNode): PlacedCommand[] {
  return [
    ...(node.kind === 'task' ? [{ path, place: `${path} ${node.command}`, command: node }] : []),
    ...(node.compensateWith
      ? [{ path, place: `${path} compensateWith ${node.compensateWith.command}`, command: node.compensateWith }]
      : []),
  ];
}

/** What is wrong with a definition by itself, each with its place; empty when it can run. */
export const problemsOf = (definition: WorkflowNode, limits: WorkflowLimits = defaultLimits): string[] =>
  problemsInScope(definition, rootPath, limits);

/** A sub-workflow is a scope of its own, whose references begin at its root; `base` is where that is. */
function problemsInScope(scope: WorkflowNode, base: string, limits: WorkflowLimits): string[] {
  return [...nodesInScope(scope)].flatMap((placed) => {
    const { path, node } = placed;
    const at = base + path.slice(rootPath.length);
    const shown = { path: at, node };
    return [
      ...durationsAt(shown).flatMap(({ place, text }) => problemsOfDuration(place, text, limits)),
      ...commandsAt(shown).flatMap(({ place, command }) => problemsOfCommand(place, command, limits)),
      ...problemsOfKind(shown),
      ...templatesAt(shown).flatMap(({ template, place }) => problemsOfReferences(scope, path, template, place)),
      ...(node.kind === 'subWorkflow' ? problemsInScope(node.definition, childPath(at, 0), limits) : []),
    ];
  });
}

function problemsOfCommand(place: string, { key, input, retry }: CompensationNode, limits: WorkflowLimits): string[] {
  const tooMany = retry !== undefined && retry.attempts > limits.attempts;
  return [
    ...(key !== undefined && !Object.hasOwn(input, key)
      ? [`${place}: the input has no "${key}", which names the actor; add it`]
      : []),
    ...(tooMany ? [`${place}: ${retry.attempts} attempts, and ${limits.attempts} are allowed`] : []),
  ];
}

function problemsOfKind({ path, node }: PlacedNode): string[] {
  if (node.kind === 'waitForEvent' && Object.keys(node.match).length === 0) {
    return [`${path} waitForEvent: "match" is empty, so any ${node.event} would do; name the fields that tell it`];
  }
  if (node.kind === 'group' && typeof node.policy === 'object' && node.policy.minSuccess > node.members.length) {
    return [`${path} group: ${node.policy.minSuccess} of its ${node.members.length} members can never succeed`];
  }
  return [];
}

function durationsAt(placed: PlacedNode): { readonly place: string; readonly text: string }[] {
  const { path, node } = placed;
  const ofNode = node.kind === 'sleep' ? node.duration : node.kind === 'task' ? undefined : node.timeout;
  const ofCommands = commandsAt(placed).flatMap(({ place, command: { timeout, retry } }) =>
    [timeout, retry?.backoff?.first, retry?.backoff?.max].map((text) => ({ place, text })),
  );
  return [{ place: `${path} ${node.kind}`, text: ofNode }, ...ofCommands].flatMap(({ place, text }) =>
    text === undefined ? [] : [{ place, text }],
  );
}

function problemsOfDuration(place: string, text: string, limits: WorkflowLimits): string[] {
  if (durationMs(text) <= limits.durationMs) return [];
  return [`${place}: ${text} is too long; ${limits.durationMs} ms are allowed`];
}

function templatesAt(placed: PlacedNode): { readonly template: Json; readonly place: string }[] {
  const { path, node } = placed;
  const commands = commandsAt(placed).map(({ place, command }) => ({ template: command.input, place }));
  switch (node.kind) {
    case 'when': {
      const compared = templatesIn(node.condition, `${path} when`);
      return [...commands, ...compared.map(({ template, at }) => ({ template, place: at }))];
    }
    case 'forEach':
      return [...commands, { template: node.items, place: `${path} forEach.items` }];
    case 'subWorkflow':
      return [...commands, { template: node.input, place: `${path} subWorkflow` }];
    case 'waitForEvent':
      return [...commands, { template: node.match, place: `${path} waitForEvent.match` }];
    case 'task':
    case 'chain':
    case 'group':
    case 'fallback':
    case 'sleep':
      return commands;
  }
}

function problemsOfReferences(scope: WorkflowNode, path: string, template: Json, place: string): string[] {
  try {
    return referencesIn(template, place).flatMap(({ reference, at }) => {
      const target = targetOf(scope, reference, at);
      if (isKnown(scope, target, path)) return [];
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

function isKnown(scope: WorkflowNode, target: Target, path: string): boolean {
  if (target.from === 'input') return true;
  if (target.from === 'item')
    return path === childPath(target.path, anyItem) || path.startsWith(`${target.path}.${anyItem}.`);
  return endsBefore(scope, target.path, path);
}

/** Whether the node at `earlier` has certainly succeeded when the one at `path` starts. */
function endsBefore(scope: WorkflowNode, earlier: string, path: string): boolean {
  const [one, other] = [earlier.split('.'), path.split('.')];
  const fork = one.findIndex((segment, index) => segment !== other[index]);
  if (fork < 1 || other[fork] === undefined) return false;
  const container = nodeAt(scope, one.slice(0, fork).join('.'));
  if (container.kind !== 'chain' || Number(one[fork]) >= Number(other[fork])) return false;
  // Between the fork and the target: what ends well only when all in it has ended well.
  return nodesDownTo(scope, earlier)
    .slice(fork, -1)
    .every(({ node }) => node.kind === 'chain' || (node.kind === 'group' && typeof node.policy !== 'object'));
}

/** Whether a JSON schema allows these fields; what it leaves open is allowed. */
export function allowsFields(schema: Json | undefined, fields: readonly string[]): boolean {
  const [field, ...rest] = fields;
  if (field === undefined || typeof schema !== 'object' || schema === null || Array.isArray(schema)) return true;
  const { properties } = schema;
  if (typeof properties !== 'object' || properties === null || Array.isArray(properties)) return true;
  return Object.hasOwn(properties, field) && allowsFields(properties[field], rest);
}

import { services, StartWorkflow, type ServiceName } from '@starter/contracts';
import type { MessageDefinition } from '@starter/messaging';
import { z } from 'zod';
import type { CommandContract, Workflow } from './definition/builder.js';
import { allowsFields, commandsOf, problemsOf } from './definition/check-definition.js';
import type { Json } from './definition/definition.js';
import { nodesOf } from './definition/node-path.js';
import { referencesIn, targetOf } from './definition/reference.js';

/** The contract of an event that workflows may wait for. */
export type EventContract = MessageDefinition & { readonly schema: z.ZodType };

/** The workflows that can be started by name, all of them checked before the service takes any work. */
export class WorkflowRegistry {
  private readonly byName: ReadonlyMap<string, Workflow>;

  /**
   * @param commands those that workflows may send
   * @param events those that workflows may wait for
   * @throws Error naming every place that could not run
   */
  constructor(
    readonly workflows: readonly Workflow[],
    commands: readonly CommandContract[],
    readonly events: readonly EventContract[],
  ) {
    this.byName = new Map(workflows.map((workflow) => [workflow.name, workflow]));
    const problems = [
      ...twice(workflows.map(({ name }) => name)).map((name) => `the name ${name} is used twice; rename one`),
      ...workflows.flatMap((workflow) =>
        problemsAtStart(workflow, commands, events).map((text) => `${workflow.name}: ${text}`),
      ),
      ...events.flatMap((event) => problemsOfOwner(event, 'workflows may wait for')),
    ];
    if (problems.length > 0) throw new Error(`these workflows cannot run:\n  ${problems.join('\n  ')}`);
  }

  find(name: string): Workflow | undefined {
    return this.byName.get(name);
  }

  get names(): string[] {
    return [...this.byName.keys()];
  }
}

/** The command that starts a workflow with this (decoded) input, its definition pinned. */
export const startOf = ({ name, input: schema, definition }: Workflow, workflowId: string, input: object) =>
  StartWorkflow.of({
    workflowId,
    workflow: name,
    definition,
    input: z.encode(schema, input as never) as Record<string, Json>,
  });

function problemsAtStart(
  workflow: Workflow,
  commands: readonly CommandContract[],
  events: readonly EventContract[],
): string[] {
  const { definition, startsOn } = workflow;
  const problems = [
    ...problemsOf(definition),
    ...problemsOfCommands(workflow, commands),
    ...problemsOfWaits(workflow, events),
    ...(startsOn ? problemsOfOwner(startsOn, 'it starts on') : []),
  ];
  // The fields are only worth a look when every reference can be read.
  return problems.length > 0 ? problems : problemsOfInputFields(workflow);
}

function problemsOfCommands({ definition }: Workflow, known: readonly CommandContract[]): string[] {
  return commandsOf(definition).flatMap(({ place, command: { command: type, version, key } }) => {
    const contract = known.find((candidate) => candidate.type === type);
    if (!contract) return [`${place}: the command is unknown; add it to the commands that workflows may send`];
    if (contract.version !== version)
      return [`${place}: v${version} is unknown; the contract has v${contract.version}`];
    return contract.key === key ? [] : [`${place}: its key is "${key}"; the contract says "${contract.key}"`];
  });
}

function problemsOfWaits({ definition }: Workflow, known: readonly EventContract[]): string[] {
  return [...nodesOf(definition)].flatMap(({ path, node }) => {
    if (node.kind !== 'waitForEvent') return [];
    const place = `${path} waitForEvent`;
    const contract = known.find(({ type }) => type === node.event);
    if (!contract) return [`${place}: the event ${node.event} is unknown; add it to those that workflows may wait for`];
    const schema = inputSchemaOf(contract.schema);
    return Object.keys(node.match)
      .filter((field) => !allowsFields(schema, [field]))
      .map((field) => `${place}.match: ${node.event} has no "${field}"; name fields of its data`);
  });
}

const problemsOfOwner = ({ type, owner }: MessageDefinition, what: string): string[] =>
  services.includes(owner as ServiceName)
    ? []
    : [`${what} ${type} of ${owner}, which is no service; see libs/contracts topology`];

const inputSchemaOf = (schema: z.ZodType): Json =>
  z.toJSONSchema(schema, { io: 'input', unrepresentable: 'any' }) as Json;

function problemsOfInputFields({ definition, input }: Workflow): string[] {
  const schema = inputSchemaOf(input);
  return commandsOf(definition).flatMap(({ place, command }) =>
    referencesIn(command.input, place).flatMap(({ reference, at }) => {
      const { from, fields } = targetOf(definition, reference, at);
      if (from === 'results' || allowsFields(schema, fields)) return [];
      return [`${at}: the input has no "${fields.join('.')}"; correct the reference or the input's schema`];
    }),
  );
}

const twice = (names: readonly string[]): string[] => [
  ...new Set(names.filter((name, index) => names.indexOf(name) !== index)),
];

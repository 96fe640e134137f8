import { services, StartWorkflow, type ServiceName } from '@starter/contracts';
import { z } from 'zod';
import type { CommandContract, Workflow } from './definition/builder.js';
import { allowsFields, commandsOf, problemsOf } from './definition/check-definition.js';
import type { Json } from './definition/definition.js';
import { referencesIn, targetOf } from './definition/reference.js';

/** The workflows that can be started by name, all of them checked before the service takes any work. */
export class WorkflowRegistry {
  private readonly byName: ReadonlyMap<string, Workflow>;

  /**
   * @param commands those that workflows may send
   * @throws Error naming every place that could not run
   */
  constructor(
    readonly workflows: readonly Workflow[],
    commands: readonly CommandContract[],
  ) {
    this.byName = new Map(workflows.map((workflow) => [workflow.name, workflow]));
    const problems = [
      ...twice(workflows.map(({ name }) => name)).map((name) => `the name ${name} is used twice; rename one`),
      ...workflows.flatMap((workflow) =>
        problemsAtStart(workflow, commands).map((text) => `${workflow.name}: ${text}`),
      ),
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

function problemsAtStart(workflow: Workflow, commands: readonly CommandContract[]): string[] {
  const { definition, startsOn } = workflow;
  const problems = [...problemsOf(definition), ...problemsOfCommands(workflow, commands)];
  if (startsOn && !services.includes(startsOn.owner as ServiceName)) {
    problems.push(
      `it starts on ${startsOn.type} of ${startsOn.owner}, which is no service; see libs/contracts topology`,
    );
  }
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

function problemsOfInputFields({ definition, input }: Workflow): string[] {
  const schema = z.toJSONSchema(input, { io: 'input', unrepresentable: 'any' }) as Json;
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

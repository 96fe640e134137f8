import { services, StartWorkflow, type ServiceName } from '@starter/contracts';
import { setImmediate } from 'node:timers/promises';
import { z } from 'zod';
import type { Workflow } from './definition/builder.js';
import { problemsOf, readDefinition, toTell } from './definition/check-definition.js';
import {
  contractProblems,
  inputProblems,
  inputSchemaProblems,
  type Contracts,
} from './definition/contract-problems.js';
import type { Json, WorkflowNode } from './definition/definition.js';
import { defaultLimits, requestLimits, type WorkflowLimits } from './definition/limits.js';

/** What can be started: by name, or as a definition over the known contracts. Everything is checked before it runs. */
export class WorkflowRegistry {
  private readonly byName: ReadonlyMap<string, Workflow>;

  /** @throws Error naming every place of the workflows that could not run */
  constructor(
    readonly workflows: readonly Workflow[],
    readonly contracts: Contracts,
    private readonly limits: WorkflowLimits = defaultLimits,
  ) {
    this.byName = new Map(workflows.map((workflow) => [workflow.name, workflow]));
    const problems = [
      ...twice(workflows.map(({ name }) => name)).map((name) => `the name ${name} is used twice; rename one`),
      ...workflows.flatMap((workflow) => this.problemsAtStart(workflow).map((text) => `${workflow.name}: ${text}`)),
      ...contracts.events.flatMap((event) => problemsOfOwner(event, 'workflows may wait for')),
    ];
    if (problems.length > 0) throw new Error(`these workflows cannot run:\n  ${problems.join('\n  ')}`);
  }

  find(name: string): Workflow | undefined {
    return this.byName.get(name);
  }

  get names(): string[] {
    return [...this.byName.keys()];
  }

  /**
   * A definition from outside, fit to run with this input; or what is wrong with it, each with its place. Others have their
   * turn between its parts, each of which takes some ten milliseconds for what is as large as it may be.
   */
  async read(
    json: unknown,
    input: Json,
  ): Promise<{ readonly definition: WorkflowNode } | { readonly problems: readonly string[] }> {
    const read = readDefinition(json, requestLimits);
    if ('problems' in read) return read;
    await setImmediate();
    const unknown = contractProblems(read.definition, this.contracts);
    if (unknown.length > 0) return { problems: toTell(unknown) };
    await setImmediate();
    const problems = inputProblems(read.definition, input, this.contracts, requestLimits.eventBytes);
    return problems.length > 0 ? { problems: toTell(problems) } : read;
  }

  private problemsAtStart({ definition, startsOn, input }: Workflow): string[] {
    const problems = [
      ...problemsOf(definition, this.limits),
      ...contractProblems(definition, this.contracts),
      ...(startsOn?.kind === 'event' ? problemsOfOwner(startsOn, 'it starts on') : []),
    ];
    // The fields are only worth a look when every reference can be read.
    return problems.length > 0 ? problems : inputSchemaProblems(definition, input);
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

const problemsOfOwner = ({ type, owner }: { readonly type: string; readonly owner: string }, what: string): string[] =>
  services.includes(owner as ServiceName)
    ? []
    : [`${what} ${type} of ${owner}, which is no service; see libs/contracts topology`];

const twice = (names: readonly string[]): string[] => [
  ...new Set(names.filter((name, index) => names.indexOf(name) !== index)),
];

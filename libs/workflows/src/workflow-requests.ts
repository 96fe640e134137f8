import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import { StartWorkflow } from '@starter/contracts';
import { Messaging, newMessageId, type Message, type Outbox } from '@starter/messaging';
import { ProblemException } from '@starter/service';
import { z } from 'zod';
import type { Json } from './definition/definition.js';
import { requestLimits } from './definition/limits.js';
import { isDeeper } from './definition/size-problems.js';
import { WorkflowCommands, type Accepted } from './workflow-commands.js';
import { startOf, WorkflowRegistry } from './workflow-registry.js';

export interface WorkflowRequest {
  /** Name of a workflow of this service; with a definition, what this run is called. */
  readonly workflow: string;
  readonly definition?: unknown;
  readonly input: Readonly<Record<string, unknown>>;
  readonly idempotencyKey?: string;
}

/** Starts the workflows that are asked for: once accepted, a workflow runs. */
@Injectable()
export class WorkflowRequests {
  constructor(
    @Inject(WorkflowRegistry) private readonly registry: WorkflowRegistry,
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(WorkflowCommands) private readonly commands: WorkflowCommands,
  ) {}

  /** @throws ProblemException 404 for an unknown workflow, 413 for one that is too large, 400 for a wrong definition or input, 422 for a key used otherwise */
  async start(request: WorkflowRequest): Promise<Accepted> {
    const own: Accepted = { workflowId: newMessageId(), commandId: newMessageId() };
    // Sizes before contents: what is too large is read by nobody.
    for (const field of ['definition', 'input'] as const) refuseTooDeep(field, request[field]);
    refuseTooLarge({ data: request }, this.messaging.outbox);
    const { definition, data } = await this.draftOf(request, own.workflowId);
    refuseTooLarge(this.commands.messageOf({ definition, data }), this.messaging.outbox);
    // A workflow of this service is asked for by name, whichever definition that has at the time.
    const asked = [data.workflow, ...(request.definition === undefined ? [] : [data.definition]), data.input];
    const accepted = await this.commands.accepted(request.idempotencyKey, asked, own);
    const { workflowId, commandId } = accepted;
    const message = this.commands.messageOf({ definition, data: { ...data, workflowId } }, commandId);
    await this.commands.execute(workflowId, message, HttpStatus.BAD_REQUEST);
    return accepted;
  }

  private async draftOf(request: WorkflowRequest, workflowId: string) {
    return request.definition === undefined ? this.byName(request, workflowId) : this.byDefinition(request, workflowId);
  }

  private byName({ workflow: name, input }: WorkflowRequest, workflowId: string) {
    const workflow = this.registry.find(name);
    if (!workflow) {
      const detail = `There is no workflow "${name}"; there are: ${this.registry.names.join(', ')}.`;
      throw new ProblemException(HttpStatus.NOT_FOUND, detail);
    }
    const decoded = z.safeDecode(workflow.input, input);
    if (decoded.success) return startOf(workflow, workflowId, decoded.data);
    const errors = decoded.error.issues.map(({ path, message }) => ({ field: ['input', ...path].join('.'), message }));
    throw new ProblemException(HttpStatus.BAD_REQUEST, `The input does not fit the workflow ${name}; see errors.`, {
      errors,
    });
  }

  private async byDefinition({ workflow, definition: json, input }: WorkflowRequest, workflowId: string) {
    if (this.registry.find(workflow)) {
      throw refused('workflow', [
        `${workflow} is a workflow of this service; leave out the definition, or rename yours`,
      ]);
    }
    const given = input as Record<string, Json>;
    const read = await this.registry.read(json, given);
    if ('problems' in read) throw refused('definition', read.problems);
    return StartWorkflow.of({ workflowId, workflow, definition: read.definition, input: given });
  }
}

/**
 * `workflow.started` carries what the command does.
 * @throws ProblemException 413
 */
export function refuseTooLarge(start: Pick<Message, 'data'>, outbox: Outbox): void {
  const { bytes, most } = outbox.sizeToPassOn(start);
  if (bytes <= most) return;
  const what = `Definition and input are ${bytes} bytes long, and ${most} are allowed.`;
  const advice = 'Pass less, for example references to large values; or raise EVENT_MAX_BYTES.';
  throw new ProblemException(HttpStatus.PAYLOAD_TOO_LARGE, `${what} ${advice}`);
}

function refuseTooDeep(field: string, value: unknown): void {
  const { jsonDepth } = requestLimits;
  if (isDeeper(value, jsonDepth)) {
    throw refused(field, [`root: values are more than ${jsonDepth} deep inside each other; flatten them`]);
  }
}

function refused(field: string, problems: readonly string[]): ProblemException {
  const errors = problems.map((message) => ({ field, message }));
  return new ProblemException(HttpStatus.BAD_REQUEST, `The ${field} cannot be accepted; see errors.`, { errors });
}

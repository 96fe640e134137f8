import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import { StartWorkflow } from '@starter/contracts';
import { inTransaction, Messaging, newMessageId, toMessage } from '@starter/messaging';
import { earlierAnswer, ProblemException } from '@starter/service';
import { z } from 'zod';
import { startOf, WorkflowRegistry } from './workflow-registry.js';

export interface WorkflowRequest {
  readonly workflow: string;
  readonly input: Readonly<Record<string, unknown>>;
  readonly idempotencyKey?: string;
}

export interface Accepted {
  readonly workflowId: string;
  readonly commandId: string;
}

/** Accepts requests for workflows: once accepted, the command is in the outbox and will be handled. */
@Injectable()
export class WorkflowRequests {
  constructor(
    @Inject(WorkflowRegistry) private readonly registry: WorkflowRegistry,
    @Inject(Messaging) private readonly messaging: Messaging,
  ) {}

  /** @throws ProblemException 404 for an unknown workflow, 400 for a wrong input, 422 for a key used otherwise */
  start(request: WorkflowRequest): Promise<Accepted> {
    const { dataSource, service: source, outbox } = this.messaging;
    const { idempotencyKey: key } = request;
    const accepted: Accepted = { workflowId: newMessageId(), commandId: newMessageId() };
    const draft = this.draftOf(request, accepted.workflowId);
    const message = toMessage(draft, { id: accepted.commandId, source });
    return inTransaction(dataSource, async (tx) => {
      const asked = [draft.data.workflow, draft.data.input];
      const earlier = key === undefined ? undefined : await earlierAnswer(tx, key, asked, accepted);
      if (earlier) return earlier;
      await outbox.add(tx, [{ channel: 'command', address: StartWorkflow.type, message }]);
      return accepted;
    });
  }

  private draftOf({ workflow: name, input }: WorkflowRequest, workflowId: string) {
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
}

import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import { StartWorkflow } from '@starter/contracts';
import {
  inTransaction,
  Messaging,
  newMessageId,
  toMessage,
  type Statement,
  type Transaction,
} from '@starter/messaging';
import { ProblemException } from '@starter/service';
import { createHash } from 'node:crypto';
import { z } from 'zod';
import { derivedId } from './derived-id.js';
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

const remember: Statement = {
  name: 'workflow-request-remember',
  text: `INSERT INTO workflow_request (idempotency_key, fingerprint) VALUES ($1, $2) ON CONFLICT DO NOTHING RETURNING 1`,
};
const recall: Statement = {
  name: 'workflow-request-recall',
  text: `SELECT fingerprint FROM workflow_request WHERE idempotency_key = $1`,
};

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
    const accepted: Accepted =
      key === undefined
        ? { workflowId: newMessageId(), commandId: newMessageId() }
        : { workflowId: derivedId('requested workflow', key), commandId: derivedId('requested command', key) };
    const draft = this.draftOf(request, accepted.workflowId);
    const message = toMessage(draft, { id: accepted.commandId, source });
    return inTransaction(dataSource, async (tx) => {
      if (key !== undefined && !(await this.isFirst(tx, key, [draft.data.workflow, draft.data.input]))) return accepted;
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

  private async isFirst(tx: Transaction, key: string, content: unknown): Promise<boolean> {
    const fingerprint = createHash('sha256').update(JSON.stringify(content)).digest('hex');
    if ((await tx.query(remember, [key, fingerprint])).length === 1) return true;
    const [first] = await tx.query<{ fingerprint: string }>(recall, [key]);
    if (first?.fingerprint === fingerprint) return false;
    const detail = 'This Idempotency-Key was used for another request; use a new key for each request.';
    throw new ProblemException(HttpStatus.UNPROCESSABLE_ENTITY, detail);
  }
}

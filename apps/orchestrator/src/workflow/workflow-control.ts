import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import { CancelWorkflow, StartWorkflow, UnstickWorkflow, type DataOf } from '@starter/contracts';
import { ActorRuntime } from '@starter/event-sourcing';
import { Messaging, newMessageId, type Draft } from '@starter/messaging';
import { ProblemException } from '@starter/service';
import { rootPath } from './definition/node-path.js';
import { forkFrom, whyNotCancelled } from './engine/operations.js';
import { readWorkflow } from './read-workflow.js';
import { WorkflowCommands, type Accepted } from './workflow-commands.js';
import { refuseTooLarge } from './workflow-requests.js';

/** Has workflows do what an operator says. */
@Injectable()
export class WorkflowControl {
  constructor(
    @Inject(ActorRuntime) private readonly runtime: ActorRuntime,
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(WorkflowCommands) private readonly commands: WorkflowCommands,
  ) {}

  /**
   * With a path, only that node.
   * @throws ProblemException 404; 409 for what is over, has not begun, or is being undone already
   */
  async cancel(workflowId: string, what: Omit<DataOf<typeof CancelWorkflow>, 'workflowId'>): Promise<Accepted> {
    const refusal = whyNotCancelled(await readWorkflow(this.runtime, workflowId), what.path ?? rootPath);
    if (refusal !== undefined) throw conflict(`It cannot be cancelled: ${refusal}.`);
    return this.send(workflowId, CancelWorkflow.of({ workflowId, ...what }));
  }

  /**
   * Starts another workflow that goes on at a step of this one, with what the steps before it led to here. That is not undone
   * when the other fails.
   * @throws ProblemException 404; 409 when this one is under way, or those steps did not end well, or were undone
   */
  async fork(id: string, from: string): Promise<Accepted> {
    const state = await readWorkflow(this.runtime, id);
    const fork = forkFrom(state, from);
    if (typeof fork === 'string') throw conflict(`It cannot be forked: ${fork}.`);
    const { workflow, definition, input } = state;
    const workflowId = newMessageId();
    return this.send(workflowId, StartWorkflow.of({ workflowId, workflow, definition, input, fork }));
  }

  /** @throws ProblemException 404; 409 for a workflow that is not stuck at this place */
  async unstick(workflowId: string, { path, remedy }: Pick<DataOf<typeof UnstickWorkflow>, 'path' | 'remedy'>) {
    const { status, compensations } = await readWorkflow(this.runtime, workflowId);
    if (status !== 'stuck') throw conflict(`The workflow is ${status}, and not stuck; there is nothing to ${remedy}.`);
    if (path !== compensations.current)
      throw conflict(`The workflow is stuck at ${compensations.current}; name that path.`);
    return this.send(workflowId, UnstickWorkflow.of({ workflowId, path, remedy }));
  }

  private send(workflowId: string, draft: Draft): Promise<Accepted> {
    const message = this.commands.messageOf(draft);
    if (draft.definition === StartWorkflow) refuseTooLarge(message, this.messaging.outbox);
    return this.commands.execute(workflowId, message);
  }
}

const conflict = (detail: string): ProblemException => new ProblemException(HttpStatus.CONFLICT, detail);

import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import {
  CancelWorkflow,
  ForkWorkflow,
  ResolveRequest,
  StartWorkflow,
  UnstickWorkflow,
  type DataOf,
} from '@starter/contracts';
import { ActorRuntime } from '@starter/event-sourcing';
import { Messaging, newMessageId, type Draft } from '@starter/messaging';
import { ProblemException } from '@starter/service';
import { rootPath } from './definition/node-path.js';
import { forkFrom, whyNotCancelled } from './engine/operations.js';
import { whyNotResolved, whyNotUnstuck } from './engine/resolutions.js';
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
    const { path = rootPath, terminate = false } = what;
    const refusal = whyNotCancelled(await readWorkflow(this.runtime, workflowId), path, terminate);
    if (refusal !== undefined) throw conflict(`It cannot be cancelled: ${refusal}.`);
    return this.send(workflowId, CancelWorkflow.of({ workflowId, ...what }));
  }

  /**
   * Starts another workflow that goes on at a step of this one, with what the steps before it led to here. That is not undone
   * when the other fails.
   * @throws ProblemException 404; 409 when this one is under way, or those steps did not end well, or were undone
   */
  async fork(of: string, from: string, key?: string): Promise<Accepted> {
    const state = await readWorkflow(this.runtime, of);
    const own: Accepted = { workflowId: newMessageId(), commandId: newMessageId() };
    const accepted = await this.commands.accepted(key, ['fork', of, from], own);
    const { workflowId, commandId } = accepted;
    const fork = forkFrom(state, from);
    if (typeof fork === 'string') throw conflict(`It cannot be forked: ${fork}.`);
    const { workflow, definition, input } = state;
    const start = this.commands.messageOf(
      StartWorkflow.of({ workflowId, workflow, definition, input, fork }),
      commandId,
    );
    refuseTooLarge(start, this.messaging.outbox);
    // First the other one says that it may be: what it undoes from now on is not what is taken over.
    await this.commands.execute(
      of,
      this.commands.messageOf(ForkWorkflow.of({ workflowId: of, fork: workflowId, from })),
    );
    await this.commands.execute(workflowId, start);
    return accepted;
  }

  /** @throws ProblemException 404; 409 for a request that has been answered, or for which nobody waits any more */
  async resolve(workflowId: string, what: Omit<DataOf<typeof ResolveRequest>, 'workflowId'>): Promise<Accepted> {
    const refusal = whyNotResolved(await readWorkflow(this.runtime, workflowId), what.requestId);
    if (refusal !== undefined) throw conflict(`It cannot be resolved: ${refusal}.`);
    return this.send(workflowId, ResolveRequest.of({ workflowId, ...what }));
  }

  /** @throws ProblemException 404; 409 for a compensation that is not stuck */
  async unstick(workflowId: string, { path, remedy }: Pick<DataOf<typeof UnstickWorkflow>, 'path' | 'remedy'>) {
    const refusal = whyNotUnstuck(await readWorkflow(this.runtime, workflowId), path);
    if (refusal !== undefined) throw conflict(`There is nothing to ${remedy}: ${refusal}.`);
    return this.send(workflowId, UnstickWorkflow.of({ workflowId, path, remedy }));
  }

  private async send(workflowId: string, draft: Draft): Promise<Accepted> {
    const message = this.commands.messageOf(draft);
    await this.commands.execute(workflowId, message);
    return { workflowId, commandId: message.id };
  }
}

const conflict = (detail: string): ProblemException => new ProblemException(HttpStatus.CONFLICT, detail);

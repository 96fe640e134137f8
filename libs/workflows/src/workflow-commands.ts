import { HttpStatus, Inject, Injectable } from '@nestjs/common';
import { ActorRuntime } from '@starter/event-sourcing';
import {
  inTransaction,
  Messaging,
  TerminalError,
  TimeoutError,
  toMessage,
  TransientError,
  type Draft,
  type Message,
} from '@starter/messaging';
import { IdempotencyKeys, ProblemException } from '@starter/service';
import { workflowInstance } from './engine/workflow.decider.js';
import type { StartedWorkflow } from './engine/workflow.state.js';

/** What a request was accepted as: the workflow, and the command that it has taken. */
export interface Accepted {
  readonly workflowId: string;
  readonly commandId: string;
}

/**
 * Has workflows of this service decide on what was asked for over HTTP before the request is answered: what is accepted has
 * happened, is found under its id, and expects its events from that moment on (ADR 21).
 */
@Injectable()
export class WorkflowCommands {
  constructor(
    @Inject(ActorRuntime) private readonly runtime: ActorRuntime,
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(IdempotencyKeys) private readonly keys: IdempotencyKeys,
  ) {}

  /**
   * The ids of the first request with this key: whether or not that got so far as to do anything, it is the same one.
   * @throws ProblemException 422 for a key that was used for another request
   */
  accepted(key: string | undefined, asked: unknown, own: Accepted): Promise<Accepted> {
    if (key === undefined) return Promise.resolve(own);
    const { dataSource } = this.messaging;
    return inTransaction(dataSource, async (tx) => (await this.keys.earlierAnswer(tx, key, asked, own)) ?? own);
  }

  messageOf(draft: Draft, id?: string): Message {
    return toMessage(draft, { source: this.messaging.service, ...(id === undefined ? {} : { id }) });
  }

  /**
   * Stored when it resolves. @returns the workflow afterwards
   * @throws ProblemException `refused` (default 409) for what the workflow refuses, 413 for what leads to an event that is too
   * large, 503 for what may be tried again
   */
  async execute(workflowId: string, message: Message, refused = HttpStatus.CONFLICT): Promise<StartedWorkflow> {
    const command = { data: message.data, message };
    const executed = await this.runtime.execute(workflowInstance, { id: workflowId, command }).catch(asProblem);
    if (executed.kind === 'rejected') throw new ProblemException(refused, `It is refused: ${executed.reason}.`);
    if (executed.kind === 'duplicate') throw new Error(`${message.type} ${message.id} is guarded by no inbox`);
    return executed.state as StartedWorkflow;
  }
}

function asProblem(error: unknown): never {
  if (error instanceof TerminalError) throw new ProblemException(HttpStatus.PAYLOAD_TOO_LARGE, error.message);
  if (error instanceof TransientError || error instanceof TimeoutError) {
    throw new ProblemException(HttpStatus.SERVICE_UNAVAILABLE, error.message, { retryAfter: 1 });
  }
  throw error;
}

import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { ActorRuntime, outcomeOfExecution, type Executed } from '@starter/event-sourcing';
import { causedBy, Messaging, toMessage, type Message, type ReceivedEvent } from '@starter/messaging';
import { z } from 'zod';
import type { Workflow } from './definition/builder.js';
import { derivedId } from './engine/derived-id.js';
import { workflowInstance } from './engine/workflow.decider.js';
import type { WorkflowState } from './engine/workflow.state.js';
import { startOf, WorkflowRegistry } from './workflow-registry.js';

/** Starts workflows on commands and events: one for each, whatever is delivered twice. */
@Injectable()
export class WorkflowStarter implements OnModuleInit {
  constructor(
    @Inject(WorkflowRegistry) private readonly registry: WorkflowRegistry,
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(ActorRuntime) private readonly runtime: ActorRuntime,
  ) {}

  onModuleInit(): void {
    for (const workflow of this.registry.workflows) {
      if (workflow.startsOn?.kind !== 'command') continue;
      // It keeps the id of the command, which whoever waits for a reply knows.
      this.messaging.commands.handle(
        workflow.startsOn,
        async ({ data, message }) => {
          const { id, replyTo } = message;
          const started = await this.start(workflow, data, message, { id, ...(replyTo ? { replyTo } : {}) });
          return outcomeOfExecution(started);
        },
        { name: `the workflow ${workflow.name}` },
      );
    }
  }

  /** One of this workflow for each of the events; they are stored when it resolves, in transactions of their own. */
  async startOn(workflow: Workflow, events: readonly ReceivedEvent[]): Promise<void> {
    await Promise.all(events.map(({ data, message }) => this.start(workflow, data, message)));
  }

  /** Its id follows from the cause: a second time it is the same workflow, which has started already. */
  private start(
    workflow: Workflow,
    data: unknown,
    cause: Message,
    as: Pick<Partial<Message>, 'id' | 'replyTo'> = {},
  ): Promise<Executed<WorkflowState>> {
    const id = startedBy(workflow, cause);
    const draft = startOf(workflow, id, data as object);
    const message = { ...toMessage(draft, { source: this.messaging.service, ...causedBy(cause) }), ...as };
    return this.runtime.execute(workflowInstance, { id, command: { data: draft.data, message } });
  }
}

/**
 * Id of the workflow that a command or event starts: that of the command, which whoever has sent it knows. Several workflows may
 * start on an event, so there it is another one, always the same.
 */
export const startedBy = ({ name, startsOn }: Workflow, { id }: Pick<Message, 'id'>): string =>
  startsOn?.kind === 'command' && isUuid(id) ? id.toLowerCase() : derivedId('workflow', name, id);

const isUuid = (id: string): boolean => z.uuid().safeParse(id).success;

import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { eventTopic, type ServiceName } from '@starter/contracts';
import { ActorRuntime, outcomeOfExecution, type Execution } from '@starter/event-sourcing';
import { causedBy, Messaging, toMessage, type Message, type MessageDefinition, type Outcome } from '@starter/messaging';
import type { Workflow } from './definition/builder.js';
import { derivedId } from './engine/derived-id.js';
import { startOf, WorkflowRegistry } from './workflow-registry.js';
import { workflowInstance } from './engine/workflow.decider.js';

/** Starts workflows on events and commands: one for each, whatever is delivered twice. */
@Injectable()
export class WorkflowStarter implements OnModuleInit {
  constructor(
    @Inject(WorkflowRegistry) private readonly registry: WorkflowRegistry,
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(ActorRuntime) private readonly runtime: ActorRuntime,
  ) {}

  onModuleInit(): void {
    for (const workflow of this.registry.workflows) {
      if (workflow.startsOn) this.startOn(workflow.startsOn, workflow);
    }
  }

  private startOn(cause: MessageDefinition & { readonly kind: 'command' | 'event' }, workflow: Workflow): void {
    const { messaging } = this;
    if (cause.kind === 'command') {
      // It keeps the id of the command, which whoever waits for a reply knows.
      messaging.commands.handle(cause, ({ data, message }) => {
        const { id, replyTo } = message;
        return this.start(workflow, { data, message, as: { id, ...(replyTo ? { replyTo } : {}) } });
      });
      return;
    }
    const consumer = `${messaging.service}.${workflow.name}`;
    messaging
      .reactTo(eventTopic(cause.owner as ServiceName), consumer)
      .on(cause, ({ data, message }) =>
        this.start(workflow, { data, message, once: { consumer, messageId: message.id } }),
      );
  }

  private async start(workflow: Workflow, { data, message: cause, as = {}, once }: Start): Promise<Outcome> {
    const { messaging, runtime } = this;
    const id = derivedId('workflow', workflow.name, cause.id);
    const draft = startOf(workflow, id, data as object);
    const message = { ...toMessage(draft, { source: messaging.service, ...causedBy(cause) }), ...as };
    const command = { data: draft.data, message };
    return outcomeOfExecution(await runtime.execute(workflowInstance, { id, command, ...(once ? { once } : {}) }));
  }
}

interface Start {
  readonly data: unknown;
  readonly message: Message;
  /** What the command that starts it takes over from the message. */
  readonly as?: Pick<Partial<Message>, 'id' | 'replyTo'>;
  /** Default: the command's own. */
  readonly once?: Execution['once'];
}

import { Inject, Injectable, type OnModuleInit } from '@nestjs/common';
import { eventTopic, type ServiceName } from '@starter/contracts';
import { ActorRuntime, outcomeOfExecution } from '@starter/event-sourcing';
import { causedBy, Messaging, toMessage, type MessageDefinition } from '@starter/messaging';
import type { Workflow } from './definition/builder.js';
import { derivedId } from './engine/derived-id.js';
import { startOf, WorkflowRegistry } from './workflow-registry.js';
import { workflowInstance } from './engine/workflow.decider.js';

/** Starts workflows on events: one for each event, whatever is delivered twice. */
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

  private startOn(event: MessageDefinition, workflow: Workflow): void {
    const { messaging, runtime } = this;
    const consumer = `${messaging.service}.${workflow.name}`;
    messaging.reactTo(eventTopic(event.owner as ServiceName), consumer).on(event, async ({ data, message: cause }) => {
      const id = derivedId('workflow', workflow.name, cause.id);
      const draft = startOf(workflow, id, data as object);
      const message = toMessage(draft, { source: messaging.service, ...causedBy(cause) });
      const once = { consumer, messageId: cause.id };
      const command = { data: draft.data, message };
      return outcomeOfExecution(await runtime.execute(workflowInstance, { id, command, once }));
    });
  }
}

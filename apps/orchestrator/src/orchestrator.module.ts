import { Inject, Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { ActorModule, CommandFailed, CommandHeld, CommandSucceeded } from '@starter/event-sourcing';
import { workflowReplies } from '@starter/contracts';
import { Messaging } from '@starter/messaging';
import { defaultLimits } from './workflow/definition/limits.js';
import { FailedStarts } from './workflow/failed-starts.js';
import { workflowDirectory } from './workflow/workflow-directory.js';
import { WorkflowCommands } from './workflow/workflow-commands.js';
import { WorkflowControl } from './workflow/workflow-control.js';
import { WorkflowEvents } from './workflow/workflow-events.js';
import { StuckWorkflows } from './workflow/stuck-workflows.js';
import { WorkflowMetrics } from './workflow/workflow-metrics.js';
import { WorkflowRegistry } from './workflow/workflow-registry.js';
import { WorkflowRequests } from './workflow/workflow-requests.js';
import { WorkflowStarter } from './workflow/workflow-starter.js';
import { WorkflowController } from './workflow/workflow.controller.js';
import { workflowInstance } from './workflow/engine/workflow.decider.js';
import { WorkflowQueries } from './workflow/workflow.queries.js';
import { WorkflowRow } from './workflow/workflow.row.js';
import { TimerPoller } from './workflow/timers/timer-poller.js';
import { workflowTimers } from './workflow/timers/workflow-timers.js';
import { EventDeliveries } from './workflow/waits/event-deliveries.js';
import { workflowWaits } from './workflow/waits/workflow-waits.js';
import { contracts, workflows } from './workflows/index.js';

export const projections = { inline: [workflowDirectory, workflowTimers, workflowWaits], following: [] };

@Module({
  imports: [
    ActorModule.forFeature({
      actors: [workflowInstance],
      inlineProjections: projections.inline,
      addresses: Object.fromEntries(
        [CommandSucceeded, CommandFailed, CommandHeld].map(({ type }) => [type, workflowReplies]),
      ),
    }),
    TypeOrmModule.forFeature([WorkflowRow]),
  ],
  controllers: [WorkflowController],
  providers: [
    { provide: WorkflowRegistry, useFactory: () => new WorkflowRegistry(workflows, contracts) },
    { provide: TimerPoller, inject: [Messaging], useFactory: (messaging: Messaging) => new TimerPoller(messaging) },
    WorkflowStarter,
    EventDeliveries,
    WorkflowEvents,
    WorkflowCommands,
    WorkflowRequests,
    WorkflowControl,
    FailedStarts,
    StuckWorkflows,
    WorkflowMetrics,
    WorkflowQueries,
  ],
})
export class OrchestratorModule {
  /** @throws Error when events may be smaller than workflows count on: what does not fit would be a dead letter instead of a failure */
  constructor(@Inject(Messaging) { outbox }: Messaging) {
    const least = defaultLimits.eventBytes + 10_000;
    if (outbox.mostEventBytes >= least) return;
    const what = `EVENT_MAX_BYTES is ${outbox.mostEventBytes}, and workflows need at least ${least}`;
    throw new Error(`${what}; raise it, or lower eventBytes in limits.ts`);
  }
}

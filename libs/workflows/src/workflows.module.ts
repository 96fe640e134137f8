import { type DynamicModule, Inject, Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { ActorModule, CommandFailed, CommandHeld, CommandSucceeded } from '@starter/event-sourcing';
import { workflowReplies } from '@starter/contracts';
import { Messaging } from '@starter/messaging';
import { defaultLimits } from './definition/limits.js';
import { FailedStarts } from './failed-starts.js';
import { workflowDirectory } from './workflow-directory.js';
import { WorkflowCommands } from './workflow-commands.js';
import { WorkflowControl } from './workflow-control.js';
import { WorkflowEvents } from './workflow-events.js';
import { StuckWorkflows } from './stuck-workflows.js';
import { WorkflowMetrics } from './workflow-metrics.js';
import { WorkflowRegistry } from './workflow-registry.js';
import { WorkflowRequests } from './workflow-requests.js';
import { WorkflowStarter } from './workflow-starter.js';
import { WorkflowController } from './workflow.controller.js';
import { workflowInstance } from './engine/workflow.decider.js';
import { WorkflowQueries } from './workflow.queries.js';
import { WorkflowRow } from './workflow.row.js';
import { TimerPoller } from './timers/timer-poller.js';
import { workflowTimers } from './timers/workflow-timers.js';
import { EventDeliveries } from './waits/event-deliveries.js';
import { workflowWaits } from './waits/workflow-waits.js';
import type { Workflow } from './definition/builder.js';
import type { Contracts } from './definition/contract-problems.js';

/** What follows from the events of workflows, in their transactions. */
export const projections = { inline: [workflowDirectory, workflowTimers, workflowWaits], following: [] };

export interface WorkflowsOptions {
  /** Those that run by name. */
  readonly workflows: readonly Workflow[];
  /** What any workflow may send and wait for. */
  readonly contracts: Contracts;
}

/** Gives a service workflows: the engine, its timers and waits, and the HTTP API. */
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
export class WorkflowsModule {
  /** @throws Error naming every place of the workflows that could not run */
  static forRoot({ workflows, contracts }: WorkflowsOptions): DynamicModule {
    const registry = { provide: WorkflowRegistry, useFactory: () => new WorkflowRegistry(workflows, contracts) };
    return { module: WorkflowsModule, providers: [registry] };
  }

  /** @throws Error when events may be smaller than workflows count on: what does not fit would be a dead letter instead of a failure */
  constructor(@Inject(Messaging) { outbox }: Messaging) {
    const least = defaultLimits.eventBytes + 10_000;
    if (outbox.mostEventBytes >= least) return;
    const what = `EVENT_MAX_BYTES is ${outbox.mostEventBytes}, and workflows need at least ${least}`;
    throw new Error(`${what}; raise it, or lower eventBytes in limits.ts`);
  }
}

import { Module } from '@nestjs/common';
import { TypeOrmModule } from '@nestjs/typeorm';
import { ActorModule, CommandFailed, CommandSucceeded } from '@starter/event-sourcing';
import { workflowReplies } from '@starter/contracts';
import { workflowDirectory } from './workflow/workflow-directory.js';
import { WorkflowRegistry } from './workflow/workflow-registry.js';
import { WorkflowRequests } from './workflow/workflow-requests.js';
import { WorkflowStarter } from './workflow/workflow-starter.js';
import { WorkflowController } from './workflow/workflow.controller.js';
import { workflowInstance } from './workflow/engine/workflow.decider.js';
import { WorkflowQueries } from './workflow/workflow.queries.js';
import { WorkflowRow } from './workflow/workflow.row.js';
import { commands, workflows } from './workflows/index.js';

export const projections = { inline: [workflowDirectory], following: [] };

@Module({
  imports: [
    ActorModule.forFeature({
      actors: [workflowInstance],
      inlineProjections: projections.inline,
      addresses: { [CommandSucceeded.type]: workflowReplies, [CommandFailed.type]: workflowReplies },
    }),
    TypeOrmModule.forFeature([WorkflowRow]),
  ],
  controllers: [WorkflowController],
  providers: [
    { provide: WorkflowRegistry, useFactory: () => new WorkflowRegistry(workflows, commands) },
    WorkflowStarter,
    WorkflowRequests,
    WorkflowQueries,
  ],
})
export class OrchestratorModule {}

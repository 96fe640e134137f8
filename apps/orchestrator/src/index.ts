import * as contracts from '@starter/contracts';
import { CreateEventStore1760000000002 } from '@starter/event-sourcing';
import { baseSettings, type ServiceDefinition } from '@starter/service';
import { OrchestratorModule, projections } from './orchestrator.module.js';
import { CreateWorkflowDirectory1760000000200 } from './workflow/create-workflow-directory.migration.js';
import { CreateWorkflowTimers1760000000201 } from './workflow/timers/create-workflow-timers.migration.js';
import { CreateWorkflowWaits1760000000202 } from './workflow/waits/create-workflow-waits.migration.js';
import { WorkflowRow } from './workflow/workflow.row.js';

export { chain, chord, forEach, group, task, workflow, type Workflow } from './workflow/definition/builder.js';
export { startOf } from './workflow/workflow-registry.js';
export { workflowInstance } from './workflow/engine/workflow.decider.js';
export { projections };

export const orchestrator: ServiceDefinition = {
  name: 'orchestrator',
  description: 'Runs workflows over the other services and tells where each of them is.',
  defaultPort: 3000,
  // An event with definition and input has 1 MB (`EVENT_MAX_BYTES`); the rest is for line breaks and escapes.
  bodyLimit: 1_500_000,
  settings: baseSettings,
  entities: [WorkflowRow],
  migrations: [
    CreateEventStore1760000000002,
    CreateWorkflowDirectory1760000000200,
    CreateWorkflowTimers1760000000201,
    CreateWorkflowWaits1760000000202,
  ],
  contracts,
  module: () => OrchestratorModule,
};

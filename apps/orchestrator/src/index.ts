import * as contracts from '@starter/contracts';
import { CreateEventStore1760000000002 } from '@starter/event-sourcing';
import { baseSettings, type ServiceDefinition } from '@starter/service';
import { workflowMigrations, WorkflowRow, WorkflowsModule } from '@starter/workflows';
import { workflows, workflowContracts } from './workflows/index.js';

export { workflows, workflowContracts };

export const orchestrator: ServiceDefinition = {
  name: 'orchestrator',
  description: 'Runs workflows over the other services and tells where each of them is.',
  defaultPort: 3000,
  // An event with definition and input has 1 MB (`EVENT_MAX_BYTES`); the rest is for line breaks and escapes.
  bodyLimit: 1_500_000,
  settings: baseSettings,
  entities: [WorkflowRow],
  migrations: [CreateEventStore1760000000002, ...workflowMigrations],
  contracts,
  module: () => WorkflowsModule.forRoot({ workflows, contracts: workflowContracts }),
};

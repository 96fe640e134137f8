import { CreateWorkflowDirectory1760000000200 } from './create-workflow-directory.migration.js';
import { CreateWorkflowTimers1760000000201 } from './timers/create-workflow-timers.migration.js';
import { CreateWorkflowWaits1760000000202 } from './waits/create-workflow-waits.migration.js';

export * from './definition/builder.js';
export type { Contracts } from './definition/contract-problems.js';
export { startOf } from './workflow-registry.js';
export { workflowInstance } from './engine/workflow.decider.js';
export type { WorkflowState } from './engine/workflow.state.js';
export { WorkflowRow } from './workflow.row.js';
export { viewOf } from './workflow.view.js';
export { projections as workflowProjections, WorkflowsModule, type WorkflowsOptions } from './workflows.module.js';

/** The tables of workflows, beside those of the event store. */
export const workflowMigrations = [
  CreateWorkflowDirectory1760000000200,
  CreateWorkflowTimers1760000000201,
  CreateWorkflowWaits1760000000202,
];

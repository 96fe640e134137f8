export { CreateTaskTable1760000000005 } from './create-task-table.migration.js';
export type { IsolatedContext, IsolatedHandler } from './isolated/isolated-messages.js';
export type { IsolatedTask } from './isolated/isolated-tasks.js';
export { OnTask } from './on-task.js';
export {
  TaskLostError,
  TaskRetryError,
  TaskRevokedError,
  type Progress,
  type TaskContext,
  type TaskHandler,
  type TaskOptions,
} from './task-context.js';
export { TaskControl, TaskEndedError, type Revocation, type TaskFilter } from './task-control.js';
export { taskSettings } from './task-settings.js';
export { taskStates, type ScheduledTask, type Task, type TaskState } from './task-view.js';
export { Tasks, type TasksOptions } from './tasks.js';
export { TasksModule } from './tasks.module.js';

export {
  apply,
  defineActor,
  handle,
  isRejection,
  on,
  reject,
  streamId,
  type Actor,
  type Command,
  type Decision,
  type OutgoingCommand,
  type RecordedEvent,
  type Rejection,
} from './actor.js';
export { ActorModule, ActorRuntimeModule, type ActorFeature } from './actor.module.js';
export { ActorRuntime, type Executed, type Execution } from './actor-runtime.js';
export { CreateEventStore1760000000002 } from './create-event-store.migration.js';
export { decide, evolve } from './decide.js';
export { ConcurrencyError } from './event-store.js';
export { ProjectionModule } from './projection.module.js';
export { defineProjection, project, type Projection } from './projection.js';
export { CommandFailed, CommandSucceeded } from '@starter/messaging';

export {
  apply,
  defineActor,
  handle,
  ignore,
  isRejection,
  on,
  reject,
  streamId,
  type Actor,
  type Command,
  type Decision,
  type Ignored,
  type OutgoingCommand,
  type RecordedEvent,
  type Rejection,
  type SnapshotPolicy,
} from './actor.js';
export { ActorModule, ActorRuntimeModule, type ActorFeature } from './actor.module.js';
export type { Loaded } from './actor-cache.js';
export { ActorRuntime, outcomeOfExecution, type ActorRuntimeOptions, type Executed } from './actor-runtime.js';
export { archiveStreams, type Archived, type ArchiveOptions } from './archive.js';
export { archivedStreams, ArchivedStreamError } from './archived-stream.js';
export { CreateEventStore1760000000002 } from './create-event-store.migration.js';
export { decide, evolve } from './decide.js';
export { appendEvents, appendToStream, ConcurrencyError, type NewEvent } from './event-store.js';
export { eventLines, lastEventLines, snapshotOfLog, type EventFilter, type LoggedEvent } from './event-lines.js';
export type { Execution } from './execution.js';
export { stateAt, type Moment, type PastState } from './history.js';
export { CorruptStreamError } from './load-actors.js';
export { MailboxFullError } from './mailboxes.js';
export { ProjectionModule } from './projection.module.js';
export { Projections } from './projections.js';
export { projectionStatus, type FollowedProjection, type ProjectionStatus } from './projection-status.js';
export {
  consumerOf,
  defineProjection,
  defineStateProjection,
  project,
  projectAll,
  type Projection,
  type StateChange,
} from './projection.js';
export { rebuildProjection, type RebuildOptions, type RebuildProgress } from './rebuild.js';
export { restoreStreams, type Restored, type RestoreOptions } from './restore.js';
export { CommandFailed, CommandHeld, CommandSucceeded, RevokeTask, revocationAddress } from '@starter/messaging';

export { Batches, settleInHalves, type Call as BatchCall } from './batches.js';
export { CommandConsumer, type CommandHandlerOptions } from './consumer/command-consumer.js';
export { Attempt, completeTimeLimit, type TimeLimit } from './consumer/attempt.js';
export { Dispatcher, type MessageHandler, type Received, type ReceivedMessage } from './consumer/dispatcher.js';
export { EventReactor } from './consumer/event-reactor.js';
export type { HandlerOptions } from './consumer/handler-options.js';
export { KeyedQueue } from './consumer/keyed-queue.js';
export type { OrderedHandler, OrderedHandlerOptions, ReceivedEvent } from './consumer/event-batch.js';
export { OrderedEvents, type OrderedEventsOptions } from './consumer/ordered-events.js';
export type { WaitOptions } from './consumer/sequence-waiters.js';
export { outageRetryMs, triage } from './consumer/triage.js';
export { CreateMessagingTables1760000000001 } from './database/create-messaging-tables.migration.js';
export {
  DeadLetters,
  type DeadLettersOptions,
  type Discard,
  type Redrive,
  type Selection,
} from './dead-letters/dead-letters.js';
export type {
  DeadLetter,
  DeadLetterDetails,
  DeadLetterFilter,
  DeadLetterGroup,
  DeadLetterPage,
} from './dead-letters/dead-letter-view.js';
export { exclusively, type Exclusive } from './database/exclusively.js';
export { migrate } from './database/migrate.js';
export { DatabaseClient, type DatabaseLimits } from './database/database-client.js';
export { databaseOptions, type DatabaseOptions } from './database/database-options.js';
export {
  inTransaction,
  maintenance,
  runStatement,
  together,
  type Fence,
  type Statement,
  type Transaction,
} from './database/transaction.js';
export { DatabaseBusyError, DatabaseUnavailableError, outageOf } from './database/unavailable.js';
export {
  decode,
  keyOf,
  toMessage,
  type DataOf,
  type Draft,
  type MessageDefinition,
  type PayloadOf,
} from './definition.js';
export * from './errors.js';
export { failpoint, failpoints, type Failpoint } from './failpoint.js';
export * from './failure-policy.js';
export { FlowController, type FlowBounds, type FlowState } from './flow/flow-controller.js';
export type { Flow, FlowOptions } from './flow/flow-gate.js';
export { admitOnce, type InboxKey } from './inbox/inbox.js';
export { openGaps, skipGap, skipGaps, type Gap, type SkipGap, type SkipGaps } from './inbox/gaps.js';
export type { ParkingLimits } from './inbox/parking-room.js';
export { keptOf, recordDiscarded, type Discarded } from './inbox/discarded.js';
export { checkInboxRetention, RetentionJob, retryHorizonMs, type RetainedTable } from './inbox/retention.js';
export { holdConsumer } from './inbox/sequence.js';
export { takeOverKeys } from './inbox/take-over.js';
export { checkKafka } from './kafka/check-kafka.js';
export { connectKafka, type KafkaOptions } from './kafka/kafka-event-transport.js';
export { consumerGroupId } from './kafka/consumer-group-id.js';
export { errorText, silentLogger, type Logger } from './logger.js';
export { MemoryCommandBroker } from './memory/memory-command-broker.js';
export { MemoryCommandTransport } from './memory/memory-command-transport.js';
export { MemoryEventLog } from './memory/memory-event-log.js';
export { MemoryEventTransport } from './memory/memory-event-transport.js';
export * from './message.js';
export { Messaging, type CommandQueue, type Extension, type MessagingOptions, type Problem } from './messaging.js';
export { ConsumerMonitor, type Counts } from './monitor/consumer-monitor.js';
export { metricFamilies, type MetricFamily, type MetricSample } from './monitor/metric-families.js';
export { QueueMonitor, type QueueSnapshot } from './monitor/queue-monitor.js';
export { commandStrategy } from './nest/command-strategy.js';
export { connectMessaging } from './nest/connect-messaging.js';
export { declareHandler, type HandlerDecorator } from './nest/handler-decorator.js';
export { MessagingModule } from './nest/messaging.module.js';
export { OnCommand } from './nest/on-command.js';
export {
  OnEvent,
  type ReactionOptions,
  type ReceivedInSequence,
  type ReceivedTogether,
  type SequenceOptions,
} from './nest/on-event.js';
export * from './outcome.js';
export type { OutgoingProblem } from './outbox/destination.js';
export { Outbox, type OutboxEntry } from './outbox/outbox.js';
export type { OutboxBacklog, OutboxMarks } from './outbox/outbox-backlog.js';
export { OutboxRelay, type OutboxMetrics, type OutboxRelayOptions } from './outbox/outbox-relay.js';
export { redact, replaceFields, subjectOf, textsAt, type PersonalItem } from './personal-fields.js';
export { deadLetterQueue, retryQueue } from './rabbitmq/queue-names.js';
export { connectRabbitMq, type RabbitMqOptions } from './rabbitmq/rabbitmq-command-transport.js';
export { parseRate } from './rate-limit/rate.js';
export { RateLimits, type RateLimitStatus } from './rate-limit/rate-limits.js';
export { CommandFailed, CommandHeld, CommandSucceeded, replyEntry, replyFor, type Answer } from './reply.js';
export { RevokeTask, revocationAddress } from './revoke-task.js';
export { isSealed, maskSealed, readSealed, type SealedText } from './sealed-form.js';
export { erasedReason, type Sealing } from './sealing.js';
export { bounds, findUnstorable, nameProblem, storableValue, textProblem, type Unstorable } from './storable.js';
export * from './transport/command-transport.js';
export type { DeadLetterDelivery, DeadLetterHandler } from './transport/dead-letter.js';
export * from './transport/delivery.js';
export * from './transport/event-transport.js';
export type { RecordPosition } from './transport/record-position.js';
export { HandlerSlots } from './transport/handler-slots.js';
export { waves } from './waves.js';

import type { FlowOptions } from '../flow/flow-gate.js';
import type { Message } from '../message.js';
import type { DeadLetterHandler } from './dead-letter.js';
import type { Consumer, DeliveryHandler } from './delivery.js';
import type { RecordPosition } from './record-position.js';

export interface TopicDeclaration {
  readonly name: string;
  /**
   * What a new topic gets. An existing one may have more, which is how it is raised; with fewer it is an error. Keys of a raised
   * topic move to other partitions: consumers in sequence keep their order, others may see the old and the new at once.
   */
  readonly partitions: number;
  /** Only the latest record of each key is kept, and that one for ever. Fixed when the topic is created. Default: all are. */
  readonly compacted?: boolean;
  /**
   * How long records are kept, in milliseconds; -1: for ever. What a new topic gets; an existing one that keeps them for less is
   * an error. Default: the broker's, whatever that is.
   */
  readonly retentionMs?: number;
}

export interface SubscribeOptions {
  readonly topic: string;
  /** Members of the same group share the partitions; a new group starts from the earliest record. */
  readonly group: string;
  /** Most deliveries of this member handled at the same time. Default 100. */
  readonly concurrency?: number;
  /** What bounds the deliveries in hand besides: their bytes, those that wait for a retry included, and the load. */
  readonly flow?: FlowOptions;
  /**
   * How long this reader may be away, in milliseconds: a topic that keeps its records for less is its `problem`, whoever owns it.
   * Default: any.
   */
  readonly longestOutageMs?: number;
  /** Takes the dead letters. Default: they are written to `<topic>.<group>.dead-letter`, with reason headers. */
  readonly deadLetters?: DeadLetterHandler;
}

/** Moves events: a partitioned log with consumer groups. */
export interface EventTransport {
  /** Creates missing topics; rejects when an existing one has fewer partitions. Only the owner of a topic declares it. */
  declare(topics: readonly TopicDeclaration[]): Promise<void>;
  /**
   * Appends in the given order and resolves once all in-sync replicas have every message; the key is the message's subject.
   * The result has one position per message, in the order given.
   * Rejects when one message or more is not stored; what became of each is told by `publishResults` of the error. Nothing
   * is written behind a message of the same key that was refused.
   * @throws RefusedError when a message is refused: it has no subject, is too large, its topic does not exist
   * @throws NotConfirmedError when none is refused, but it is unknown whether the broker has all; sending again may duplicate
   */
  publish(topic: string, messages: readonly Message[]): Promise<RecordPosition[]>;
  /**
   * Handlers start in offset order within a partition and run side by side; the committed offset only ever covers what
   * has settled without a gap. `retry` calls the handler again in place (later records go on meanwhile), `dead-letter`
   * has it kept before its offset may be committed. A topic that does not exist yet is waited for by the consumer, which is
   * not attached until then; partitions that are added later are read from their beginning.
   */
  subscribe(options: SubscribeOptions, handler: DeliveryHandler): Promise<Consumer>;
  readonly connected: boolean;
  /** Longest time, in milliseconds, after which it is known what became of a message, or that nobody knows. Default: any. */
  readonly longestSendMs?: number | undefined;
  close(): Promise<void>;
}

export const deadLetterTopic = (topic: string, group: string): string => `${topic}.${group}.dead-letter`;

import { TerminalError } from './errors.js';
import type { TopicDeclaration } from './transport/event-transport.js';

export interface TopicOptions {
  /** Partitions of the topics that the service owns; those that exist may have more. */
  readonly partitions: number;
  /** Of single topics, by name, where it is another number. */
  readonly topicPartitions?: Readonly<Record<string, number>>;
  /** How long the service's events are kept for those that read them, in milliseconds; -1: for ever. Default: the broker's. */
  readonly eventRetentionMs?: number;
}

/**
 * The topics that a service declares: its own.
 * @throws TerminalError when `topicPartitions` names another
 */
export function ownedTopics(
  service: string,
  topics: readonly Omit<TopicDeclaration, 'partitions'>[],
  { partitions, topicPartitions = {}, eventRetentionMs }: TopicOptions,
): TopicDeclaration[] {
  const names = topics.map(({ name }) => name);
  const foreign = Object.keys(topicPartitions).filter((name) => !names.includes(name));
  if (foreign.length > 0) {
    throw new TerminalError(
      `${service} does not own ${foreign.join(', ')}, and so cannot say how many partitions it has: ` +
        `take it out of TOPIC_PARTITIONS, where it may name ${names.join(', ')}`,
    );
  }
  return topics.map((topic) => ({
    ...topic,
    partitions: topicPartitions[topic.name] ?? partitions,
    // Of a compacted topic the latest record of each key is kept for ever.
    ...(topic.compacted || eventRetentionMs === undefined ? {} : { retentionMs: eventRetentionMs }),
  }));
}

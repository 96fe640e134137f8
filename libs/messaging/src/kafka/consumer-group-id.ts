/**
 * Kafka's id of a group of ours. One per topic, because members of a Kafka group that subscribe to different topics are
 * dealt partitions which they do not read, and because each topic then rebalances by itself.
 */
export const consumerGroupId = (topic: string, group: string): string => `${topic}.${group}`;

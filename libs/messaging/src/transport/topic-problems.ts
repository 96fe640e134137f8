/** What both adapters say about a topic to publish to that is not there. */
export const missingTopic = (name: string): string =>
  `topic "${name}" does not exist: call declare([{ name: '${name}', partitions }]) at start-up`;

/** What both adapters say about a topic to consume that is not there. */
export const absentTopic = (name: string): string =>
  `topic "${name}" does not exist yet, and is waited for: the service that owns it creates it when it starts. ` +
  'Start that, or correct the name';

/** What both adapters say about a topic that is smaller than declared; a larger one is taken as it is. */
export const tooFewPartitions = (name: string, existing: number, declared: number): string =>
  `topic "${name}" has ${existing} partitions, fewer than the ${declared} that are declared. Raise it first ` +
  `(kafka-topics.sh --alter --topic ${name} --partitions ${declared}), or declare ${existing}: EVENT_PARTITIONS, or ` +
  'TOPIC_PARTITIONS for this topic alone. Raised, its keys move to other partitions; consumers in sequence keep their order';

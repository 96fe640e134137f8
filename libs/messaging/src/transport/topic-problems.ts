/** What both adapters say about a topic to publish to that is not there. */
export const missingTopic = (name: string): string =>
  `topic "${name}" does not exist: call declare([{ name: '${name}', partitions }]) at start-up`;

/** What both adapters say about a topic to consume that is not there. */
export const absentTopic = (name: string): string =>
  `topic "${name}" does not exist yet, and is waited for: the service that owns it creates it when it starts. ` +
  'Start that, or correct the name';

const days = (ms: number): string => (ms < 0 ? 'for ever' : `for ${Number((ms / 86_400_000).toFixed(2))} days`);

export const tooShortRetention = (name: string, existingMs: number, declaredMs: number): string =>
  `topic "${name}" keeps its records ${days(existingMs)}, less than declared (${days(declaredMs)}, EVENT_RETENTION_DAYS): who reads ` +
  'it and is away for longer would lose events without knowing. Raise it ' +
  `(kafka-configs.sh --alter --entity-type topics --entity-name ${name} --add-config retention.ms=${declaredMs}), or declare less`;

/** What a reader says of a topic, whoever owns it. */
export const shorterThanOutage = (name: string, existingMs: number, outageMs: number): string =>
  `topic "${name}" keeps its records ${days(existingMs)}, and this consumer may be away ${days(outageMs)} (LONGEST_OUTAGE_DAYS): ` +
  'after an outage of that length it would have lost events without knowing. Have its owner raise it (EVENT_RETENTION_DAYS, and ' +
  `kafka-configs.sh --alter --entity-type topics --entity-name ${name} --add-config retention.ms=${outageMs}), or promise less`;

/** What both adapters say about a topic that is smaller than declared; a larger one is taken as it is. */
export const tooFewPartitions = (name: string, existing: number, declared: number): string =>
  `topic "${name}" has ${existing} partitions, fewer than the ${declared} that are declared. Raise it first ` +
  `(kafka-topics.sh --alter --topic ${name} --partitions ${declared}), or declare ${existing}: EVENT_PARTITIONS, or ` +
  'TOPIC_PARTITIONS for this topic alone. Raised, its keys move to other partitions; consumers in sequence keep their order';

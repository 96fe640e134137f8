/** What both adapters say about a topic that is not there. */
export const missingTopic = (name: string): string =>
  `topic "${name}" does not exist: call declare([{ name: '${name}', partitions }]) at start-up`;

/** What both adapters say about a topic of another size. */
export const partitionCountMismatch = (name: string, existing: number, declared: number): string =>
  `topic "${name}" has ${existing} partitions but ${declared} are declared: another count would send keys to other ` +
  `partitions and break their order. Declare ${existing}, or move to a topic with a new name`;

import kafkajs, { type Cluster, type PartitionAssigner } from 'kafkajs';

/** What kafkajs's types do not tell of it. */
export interface ConsumerCluster extends Cluster {
  /** By topic and partition, as far as they are known: decimal strings. */
  committedOffsets(group: { readonly groupId: string }): Record<string, Record<number, string | undefined> | undefined>;
}

/**
 * kafkajs 2.2.4 has no "partitions revoked" that it waits for: its REBALANCING event is fire and forget. But its first
 * step of every join is to look up the coordinator on the cluster object that it hands to assigners, so wrapping that
 * call gives the moment at which the old generation can still commit. Assigns like kafkajs's own round robin, under its
 * name, so that members with and without this wrapper can share a group. `onCluster` gets that object: it is the consumer's
 * own connection, which kafkajs shows nowhere else.
 */
export const holdBeforeJoin =
  (beforeJoin: () => Promise<void>, onCluster: (cluster: ConsumerCluster) => void): PartitionAssigner =>
  (config) => {
    const { cluster } = config;
    const find = cluster.findGroupCoordinator.bind(cluster);
    cluster.findGroupCoordinator = async (group) => {
      await beforeJoin();
      return find(group);
    };
    onCluster(cluster as ConsumerCluster);
    return kafkajs.PartitionAssigners.roundRobin(config);
  };

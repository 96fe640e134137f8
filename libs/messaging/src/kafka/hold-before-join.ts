import kafkajs, { type PartitionAssigner } from 'kafkajs';

/**
 * kafkajs 2.2.4 has no "partitions revoked" that it waits for: its REBALANCING event is fire and forget. But its first
 * step of every join is to look up the coordinator on the cluster object that it hands to assigners, so wrapping that
 * call gives the moment at which the old generation can still commit. Assigns like kafkajs's own round robin, under its
 * name, so that members with and without this wrapper can share a group.
 */
export const holdBeforeJoin =
  (beforeJoin: () => Promise<void>): PartitionAssigner =>
  (config) => {
    const { cluster } = config;
    const find = cluster.findGroupCoordinator.bind(cluster);
    cluster.findGroupCoordinator = async (group) => {
      await beforeJoin();
      return find(group);
    };
    return kafkajs.PartitionAssigners.roundRobin(config);
  };

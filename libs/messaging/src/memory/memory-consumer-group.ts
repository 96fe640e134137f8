import { recordBytes, type StoredRecord } from '../transport/event-record.js';
import type { GroupMember } from '../transport/group-member.js';
import type { RecordSource } from '../transport/partition-deliveries.js';

/**
 * The coordinator of one group on one topic: who owns which partition, and up to where each is settled. As with Kafka's
 * eager protocol, every change of membership brings all members to rest first and then deals the partitions anew.
 */
export class MemoryConsumerGroup {
  private readonly members: GroupMember[] = [];
  private readonly owners: (GroupMember | undefined)[] = [];
  /** Per partition, the offset of the first record that the group has not settled. */
  readonly committed: number[];
  private stale = false;
  private suspended = false;
  private rebalancing: Promise<void> | undefined;

  constructor(
    private readonly partitions: readonly (readonly (StoredRecord | undefined)[])[],
    private readonly rebalanceDrainMs: number,
  ) {
    this.committed = partitions.map(() => 0);
  }

  /** Resolves when the member has its partitions. */
  async join(member: GroupMember): Promise<void> {
    this.members.push(member);
    await this.rebalance();
  }

  /** At once: what the member has not committed yet is delivered again to the others. */
  leave(member: GroupMember): void {
    const index = this.members.indexOf(member);
    if (index < 0) return;
    this.members.splice(index, 1);
    this.takeAway(member);
    void this.rebalance();
  }

  owns(member: GroupMember, partition: number): boolean {
    return this.owners[partition] === member;
  }

  commit(member: GroupMember, partition: number, position: bigint): void {
    if (this.owns(member, partition)) this.committed[partition] = Number(position);
  }

  /** Records of the member's partitions that are not committed. */
  waitingFor(member: GroupMember): number {
    const own = [...this.partitions.entries()].filter(([partition]) => this.owns(member, partition));
    return own.reduce((sum, [partition, records]) => sum + records.length - (this.committed[partition] ?? 0), 0);
  }

  /** The broker went away: nobody owns anything until {@link reassemble}. */
  disband(): void {
    this.suspended = true;
    for (const member of this.members) this.takeAway(member);
  }

  reassemble(): Promise<void> {
    this.suspended = false;
    while (this.committed.length < this.partitions.length) this.committed.push(0);
    return this.rebalance();
  }

  wake(): void {
    for (const member of this.members) member.wake();
  }

  get isStable(): boolean {
    return this.rebalancing === undefined;
  }

  private rebalance(): Promise<void> {
    this.stale = true;
    this.rebalancing ??= this.dealUntilStable().finally(() => (this.rebalancing = undefined));
    return this.rebalancing;
  }

  private async dealUntilStable(): Promise<void> {
    while (this.stale) {
      this.stale = false;
      await Promise.all(this.members.map((member) => member.hold(this.rebalanceDrainMs)));
      // Someone joined or left while the handlers came to rest.
      if (this.stale) continue;
      if (!this.suspended) this.deal();
      for (const member of this.members) member.resume();
    }
  }

  private deal(): void {
    for (const partition of this.partitions.keys()) {
      this.owners[partition] = this.members[partition % this.members.length];
    }
    for (const member of this.members) {
      const own = [...this.partitions.keys()].filter((partition) => this.owns(member, partition));
      member.assign(own, (partition) => this.readFromCommitted(partition));
    }
  }

  private readFromCommitted(partition: number): RecordSource {
    const records = this.partitions[partition] ?? [];
    let position = this.committed[partition] ?? 0;
    const end = BigInt(records.length);
    const first = (): StoredRecord | undefined => {
      // Holes of a compacted topic.
      while (position < records.length && !records[position]) position += 1;
      return records[position];
    };
    return {
      end,
      get nextBytes() {
        const record = first();
        return record && recordBytes(record);
      },
      next: () => {
        const record = first();
        if (record) position += 1;
        return record;
      },
    };
  }

  private takeAway(member: GroupMember): void {
    member.assign([], () => ({ next: () => undefined, nextBytes: undefined, end: 0n }));
    for (const [partition, owner] of this.owners.entries()) if (owner === member) this.owners[partition] = undefined;
  }
}

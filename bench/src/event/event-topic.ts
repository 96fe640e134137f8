import { connectKafka, createMessage, type Message } from '@starter/messaging';
import kafkajs, { type Admin } from 'kafkajs';
import { Deposited, streamOf, type DepositData } from '../account.js';

/** A topic full of deposits, in sequence per account. */
export class EventTopic {
  private constructor(
    readonly service: string,
    readonly brokers: string[],
    readonly work: readonly DepositData[],
  ) {}

  static async fill(
    brokers: string[],
    service: string,
    partitions: number,
    work: readonly DepositData[],
  ): Promise<EventTopic> {
    const transport = await connectKafka({ brokers, clientId: service });
    const name = topicOf(service);
    await transport.declare([{ name, partitions }]);
    const messages = messagesOf(work, service);
    for (let start = 0; start < messages.length; start += 1_000) {
      await transport.publish(name, messages.slice(start, start + 1_000));
    }
    await transport.close();
    return new EventTopic(service, brokers, work);
  }

  /** Records that the group has not committed. */
  lag(group: string): Promise<number> {
    const topic = topicOf(this.service);
    return this.asAdmin(async (admin) => {
      const [committed] = await admin.fetchOffsets({ groupId: group, topics: [topic] });
      const offsets = new Map(committed?.partitions.map(({ partition, offset }) => [partition, Number(offset)]));
      const ends = await admin.fetchTopicOffsets(topic);
      return ends.reduce(
        (sum, { partition, high }) => sum + Number(high) - Math.max(0, offsets.get(partition) ?? 0),
        0,
      );
    });
  }

  forget(group: string): Promise<void> {
    return this.asAdmin(async (admin) => void (await admin.deleteGroups([group])));
  }

  /** And the dead-letter topics of its groups. */
  delete(): Promise<void> {
    const name = topicOf(this.service);
    return this.asAdmin(async (admin) => {
      const topics = (await admin.listTopics()).filter((topic) => topic.startsWith(name));
      await admin.deleteTopics({ topics });
    });
  }

  private async asAdmin<T>(work: (admin: Admin) => Promise<T>): Promise<T> {
    const admin = kafkaClient(this.brokers).admin();
    await admin.connect();
    try {
      return await work(admin);
    } finally {
      await admin.disconnect();
    }
  }
}

export const topicOf = (service: string): string => `${service}.events`;

export const kafkaClient = (brokers: string[]) =>
  new kafkajs.Kafka({ brokers, clientId: 'bench', logLevel: kafkajs.logLevel.ERROR });

function messagesOf(work: readonly DepositData[], source: string): Message[] {
  const sequences = new Map<string, number>();
  return work.map((data) => {
    const subject = streamOf(data.accountId);
    const sequence = (sequences.get(subject) ?? 0) + 1;
    sequences.set(subject, sequence);
    return createMessage({ type: Deposited.type, version: Deposited.version, source, subject, sequence, data });
  });
}

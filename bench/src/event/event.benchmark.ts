import { CreateMessagingTables1760000000001 } from '@starter/messaging';
import { deposits, totalsOf, type DepositData } from '../account.js';
import type { Benchmark, Setting } from '../benchmark.js';
import { reached } from '../reached.js';
import type { Variant } from '../rounds.js';
import { uniqueName } from '../servers.js';
import { CreateBalances1760000000100 } from './balances.js';
import { partitions, type EventConsumer, type Source } from './event-consumer.js';
import { EventTopic } from './event-topic.js';
import { projectWithOurs } from './ours.js';
import { consumeRaw } from './raw.js';
import { consumeWithStock } from './stock.js';
import { verifyBalances } from './verify-balances.js';

const accounts = 1_000;

interface Consumption {
  readonly name: string;
  readonly topic: EventTopic;
  readonly prepare: (source: Source) => Promise<EventConsumer>;
}

/** From a full topic to the projected rows and the committed offsets. Every trial reads the same records as a new group. */
export const event: Benchmark = async (setting) => {
  // The stock variant is too slow for as many; what counts is events per second.
  const [many, few] = setting.quick ? [400, 100] : [60_000, 6_000];
  const brokers = await setting.servers.kafka();
  const fill = (work: DepositData[]) => EventTopic.fill(brokers, uniqueName('bench'), partitions, work);
  const topic = await fill(deposits(many, accounts, setting.seed));
  const shortTopic = await fill(deposits(few, accounts, setting.seed));
  const variants: Consumption[] = [
    { name: 'ours', topic, prepare: projectWithOurs },
    { name: 'raw kafkajs', topic, prepare: consumeRaw },
    { name: 'stock NestJS', topic: shortTopic, prepare: consumeWithStock },
  ];
  return {
    comparisons: [
      {
        title: `events of ${accounts} actors, ${partitions} partitions`,
        unit: 'events/s',
        variants: variants.map((consumption) => variantOf(consumption, setting)),
        targets: [
          { of: 'ours', against: 'raw kafkajs', atLeast: 0.65 },
          { of: 'ours', against: 'stock NestJS', atLeast: 5 },
        ],
      },
    ],
    close: async () => {
      await topic.delete();
      await shortTopic.delete();
    },
  };
};

function variantOf({ name, topic, prepare }: Consumption, { servers }: Setting): Variant {
  return {
    name,
    async prepare() {
      const database = await servers.createDatabase([CreateMessagingTables1760000000001, CreateBalances1760000000100]);
      const { service, brokers, work } = topic;
      const consumer = await prepare({ database: database.url, brokers, service, consumer: uniqueName('balances') });
      let stopped: Promise<void> | undefined;
      const stop = () => (stopped ??= consumer.stop());
      return {
        operations: work.length,
        attach: () => consumer.attach(),
        run: () => reached(() => consumer.settled(), work.length),
        verify: async () => {
          await stop();
          await verifyBalances(database.url, await topic.lag(consumer.group), totalsOf(work));
        },
        close: async () => {
          await stop();
          await topic.forget(consumer.group);
          await database.drop();
        },
      };
    },
  };
}

import { CreateEventStore1760000000002 } from '@starter/event-sourcing';
import { CreateMessagingTables1760000000001 } from '@starter/messaging';
import { deposits, totalsOf, type DepositData } from '../account.js';
import type { Benchmark, Setting } from '../benchmark.js';
import { reached } from '../reached.js';
import type { Variant } from '../rounds.js';
import { uniqueName } from '../servers.js';
import type { CommandConsumer, Urls } from './command-consumer.js';
import { CommandQueue } from './command-queue.js';
import { consumeByHand } from './hand-written.js';
import { consumeWithOurs } from './ours.js';
import { consumeWithStock } from './stock.js';
import { verifyCommands } from './verify-commands.js';

const accounts = 1_000;

interface Consumption {
  readonly name: string;
  readonly commands: number;
  /** Puts one command into the queue, in the form that this consumer reads. */
  readonly fill: (queue: CommandQueue, commands: readonly DepositData[]) => Promise<void>;
  readonly prepare: (service: string, urls: Urls) => Promise<{ consume(): Promise<CommandConsumer> }>;
}

/**
 * From the broker's queue to the acknowledgement: each command leaves an inbox row, an event and an outbox row. Nobody
 * relays the outbox, in no variant: the relay is another path, and it would take the processor from all of them alike.
 */
export const command: Benchmark = async (setting) => {
  // The stock variant is too slow for as many; what counts is commands per second.
  const [many, few] = setting.quick ? [300, 100] : [20_000, 4_000];
  const fill = (queue: CommandQueue, commands: readonly DepositData[]) => queue.fill(commands);
  const fillStock = (queue: CommandQueue, commands: readonly DepositData[]) => queue.fillForNest(commands);
  const variants: Consumption[] = [
    { name: 'ours', commands: many, fill, prepare: consumeWithOurs },
    { name: 'hand-written', commands: many, fill, prepare: consumeByHand },
    { name: 'stock NestJS', commands: few, fill: fillStock, prepare: consumeWithStock },
  ];
  return {
    comparisons: [
      {
        title: `commands to ${accounts} actors`,
        unit: 'commands/s',
        variants: variants.map((consumption) => variantOf(consumption, setting)),
        targets: [
          { of: 'ours', against: 'hand-written', atLeast: 0.75 },
          { of: 'ours', against: 'stock NestJS', atLeast: 3 },
        ],
      },
    ],
    close: async () => undefined,
  };
};

function variantOf({ name, commands, fill, prepare }: Consumption, { servers, seed }: Setting): Variant {
  return {
    name,
    async prepare() {
      const service = uniqueName('bench');
      const migrations = [CreateMessagingTables1760000000001, CreateEventStore1760000000002];
      const database = await servers.createDatabase(migrations);
      const urls = { database: database.url, rabbitMq: await servers.rabbitMq() };
      const queue = await CommandQueue.declare(urls.rabbitMq, service);
      const work = deposits(commands, accounts, seed);
      await fill(queue, work);
      const consumption = await prepare(service, urls);
      let consumer: CommandConsumer | undefined;
      return {
        operations: work.length,
        attach: async () => {
          consumer = await consumption.consume();
        },
        run: () => reached(() => consumer?.settled() ?? 0, work.length),
        verify: async () => {
          await consumer?.stop();
          await verifyCommands(urls.database, await queue.depth(), totalsOf(work));
        },
        close: async () => {
          await consumer?.stop();
          await queue.delete();
          await database.drop();
        },
      };
    },
  };
}

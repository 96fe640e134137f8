import { defineProjection, on, project, Projections } from '@starter/event-sourcing';
import { connectKafka, consumerGroupId, MemoryCommandTransport, Messaging } from '@starter/messaging';
import { Deposited } from '../account.js';
import { openDataSource } from '../connections.js';
import { logger } from '../servers.js';
import { addDeposits } from './balances.js';
import { partitions, poolSize, type EventConsumer, type Source } from './event-consumer.js';

/** A service with one asynchronous projection. */
export async function projectWithOurs({ database, brokers, service, consumer }: Source): Promise<EventConsumer> {
  const dataSource = await openDataSource(database, poolSize);
  const commands = new MemoryCommandTransport();
  const events = await connectKafka({ brokers, clientId: consumer, logger });
  const messaging = new Messaging({ service, dataSource, commands, events, logger, partitions });
  const balances = defineProjection(consumer, {
    handlers: on(
      project(
        Deposited,
        async (tx, deposits) => {
          await tx.query(addDeposits, [
            deposits.map(({ data }) => data.accountId),
            deposits.map(({ data }) => data.amount),
            deposits.map(({ sequence }) => sequence),
          ]);
        },
        // As in the raw variant: the statement adds up.
        { manyPerStream: true },
      ),
    ),
  });
  new Projections(messaging).follow(balances);
  return {
    group: consumerGroupId(messaging.topic, `${service}.${consumer}`),
    attach: () => messaging.onApplicationBootstrap(),
    settled: () => messaging.monitor.totals.handled,
    async stop() {
      await messaging.beforeApplicationShutdown();
      await Promise.all([events.close(), commands.close()]);
      await dataSource.destroy();
    },
  };
}

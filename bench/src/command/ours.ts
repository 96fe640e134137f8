import { ActorModule, ActorRuntime } from '@starter/event-sourcing';
import { connectRabbitMq, MemoryEventTransport, Messaging } from '@starter/messaging';
import { account } from '../account.js';
import { openDataSource } from '../connections.js';
import { logger } from '../servers.js';
import { poolSize, prefetch, type CommandConsumer, type Urls } from './command-consumer.js';

/** A service as it is, except that its relay is not started. */
export async function consumeWithOurs(service: string, urls: Urls): Promise<{ consume(): Promise<CommandConsumer> }> {
  const dataSource = await openDataSource(urls.database, poolSize);
  const commands = await connectRabbitMq({ url: urls.rabbitMq, logger });
  const events = new MemoryEventTransport();
  const messaging = new Messaging({ service, dataSource, commands, events, logger, partitions: 1, prefetch });
  const runtime = new ActorRuntime(messaging);
  new ActorModule({ actors: [account] }, messaging, runtime).onModuleInit();
  await messaging.commands.declare();
  let stopped: Promise<void> | undefined;
  return {
    async consume() {
      await messaging.commands.start();
      return {
        settled: () => messaging.monitor.totals.handled,
        stop: () => (stopped ??= stop()),
      };
    },
  };

  async function stop(): Promise<void> {
    await messaging.commands.stop();
    await runtime.close();
    await commands.close();
    await dataSource.destroy();
  }
}

import {
  CreateMessagingTables1760000000001,
  databaseOptions,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
  migrate,
  silentLogger,
} from '@starter/messaging';
import { DataSource } from 'typeorm';

// The process of outbox-kill.int.spec.ts that dies: it relays all shards of the outbox, with a lease that outlasts the spec.
const [url] = process.argv.slice(2);
const dataSource = await new DataSource({
  ...databaseOptions({ url }),
  migrations: [CreateMessagingTables1760000000001],
}).initialize();
await migrate(dataSource);
const messaging = new Messaging({
  ...{ service: 'test', dataSource, logger: silentLogger, partitions: 1, leaseMs: 600_000 },
  ...{ commands: new MemoryCommandTransport(), events: new MemoryEventTransport() },
});
await messaging.onApplicationBootstrap();
process.send('up');

import { ActorRuntime, CreateEventStore1760000000002, type Actor } from '@starter/event-sourcing';
import {
  CreateMessagingTables1760000000001,
  MemoryCommandTransport,
  MemoryEventTransport,
  Messaging,
} from '@starter/messaging';
import type { DataSource } from 'typeorm';
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { account, Deposited } from '../account.js';
import type { Benchmark, Setting } from '../benchmark.js';
import { openDataSource } from '../connections.js';
import { WrongWorkError, type Trial, type Variant } from '../rounds.js';
import { logger } from '../servers.js';

/** Only the long one gets a snapshot; it has gone on for a while since. */
const every = 1_000;
const sinceSnapshot = 50;

const actor: Actor<number> = {
  ...account,
  snapshot: { version: 1, schema: z.number(), every, loadSlowerThanMs: Infinity },
};

/** An actor with a long past is loaded through its snapshot, and one with a short past from its events. */
export const snapshot: Benchmark = (setting) => {
  const events = setting.quick ? 2_000 : 100_000;
  const long = variantOf(`${events.toLocaleString('en-US')} events and a snapshot`, events, setting);
  const short = variantOf('100 events', 100, setting);
  return Promise.resolve({
    comparisons: [
      {
        title: 'loading an actor from the database',
        unit: 'loads/s',
        variants: [long, short],
        // Twice the time is half the rate.
        targets: [{ of: long.name, against: short.name, atLeast: 0.5 }],
      },
    ],
    close: () => Promise.resolve(),
  });
};

function variantOf(name: string, events: number, { servers, quick }: Setting): Variant {
  const loads = quick ? 10 : 500;
  return {
    name,
    async prepare(): Promise<Trial> {
      const migrations = [CreateMessagingTables1760000000001, CreateEventStore1760000000002];
      const database = await servers.createDatabase(migrations);
      const dataSource = await openDataSource(database.url, 2);
      const runtime = newRuntime(dataSource);
      await append(dataSource, 1, events);
      let total = events;
      if (events >= every) {
        await takeSnapshot(runtime);
        await append(dataSource, events + 1, events + sinceSnapshot);
        total += sinceSnapshot;
      }
      await dataSource.query('VACUUM ANALYZE event, snapshot');
      const states = new Set<string>();
      return {
        operations: loads,
        async run() {
          for (let load = 0; load < loads; load += 1) states.add(JSON.stringify(await runtime.read(actor, '1')));
        },
        async verify() {
          const right = JSON.stringify({ state: total, sequence: total });
          if (states.size !== 1 || !states.has(right))
            throw new WrongWorkError(`${[...states].join()} is not ${right}`);
          return Promise.resolve();
        },
        async close() {
          await runtime.close();
          await dataSource.destroy();
          await database.drop();
        },
      };
    },
  };
}

/** As another process it would be: nothing is in memory. */
function newRuntime(dataSource: DataSource): ActorRuntime {
  const [commands, events] = [new MemoryCommandTransport(), new MemoryEventTransport()];
  return new ActorRuntime(new Messaging({ service: 'bench', dataSource, commands, events, logger, partitions: 1 }));
}

async function append(dataSource: DataSource, from: number, to: number): Promise<void> {
  await dataSource.query(
    `INSERT INTO event (stream_id, sequence, id, type, version, data, correlation_id, command, recorded_at)
     SELECT 'account-1', sequence, gen_random_uuid(), $3, 1, '{ "accountId": "1", "amount": 1 }', 'bench', 'account.deposit', now()
       FROM generate_series($1::int, $2::int) AS sequence`,
    [from, to, Deposited.type],
  );
}

async function takeSnapshot(runtime: ActorRuntime): Promise<void> {
  await runtime.read(actor, '1');
  while (runtime.metrics.snapshots === 0) await sleep(10);
}

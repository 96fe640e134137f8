import {
  CreateEventStore1760000000002,
  defineProjection,
  on,
  project,
  rebuildProjection,
} from '@starter/event-sourcing';
import { CreateMessagingTables1760000000001 } from '@starter/messaging';
import { max, median } from 'simple-statistics';
import type { DataSource } from 'typeorm';
import { Deposited } from '../account.js';
import type { Benchmark, Figures, Setting } from '../benchmark.js';
import { openDataSource } from '../connections.js';
import { addDeposits, CreateBalances1760000000100 } from '../event/balances.js';
import { WrongWorkError } from '../rounds.js';
import { Reader } from './reader.js';

const eventsOfEach = 10;

const balances = defineProjection('balances', {
  tables: ['balance'],
  handlers: on(
    project(Deposited, async (tx, deposits) => {
      await tx.query(addDeposits, [
        deposits.map(({ data }) => data.accountId),
        deposits.map(({ data }) => data.amount),
        deposits.map(({ sequence }) => sequence),
      ]);
    }),
  ),
});

/** A projection made anew from a long log, while somebody reads the rows that it will replace. */
export const rebuild: Benchmark = (setting) =>
  Promise.resolve({
    comparisons: [],
    report: () => measureRebuild(setting),
    close: () => Promise.resolve(),
  });

async function measureRebuild({ servers, quick }: Setting): Promise<Figures> {
  const streams = quick ? 200 : 100_000;
  const total = streams * eventsOfEach;
  const database = await servers.createDatabase([
    CreateMessagingTables1760000000001,
    CreateEventStore1760000000002,
    CreateBalances1760000000100,
  ]);
  const dataSource = await openDataSource(database.url, 4);
  try {
    await fill(dataSource, streams);
    await servers.settle();
    const memory: number[] = [];
    const reader = new Reader(dataSource, streams);
    const reading = reader.run();
    const start = performance.now();
    const events = await rebuildProjection({
      dataSource,
      projection: balances,
      consumer: 'bench.balances',
      onProgress: () => memory.push(process.memoryUsage().rss / 2 ** 20),
    });
    const seconds = (performance.now() - start) / 1_000;
    reader.stop();
    await reading;
    await verify(dataSource, streams);
    if (events !== total) throw new WrongWorkError(`${events} events were projected, not ${total}`);
    const quarter = Math.ceil(memory.length / 4);
    return {
      title: `rebuild of a projection over ${total.toLocaleString('en-US')} events of ${streams.toLocaleString('en-US')} streams`,
      figures: {
        'events/s': total / seconds,
        seconds,
        'MiB resident, peak of the first quarter': max(memory.slice(0, quarter)),
        'MiB resident, peak of the last quarter': max(memory.slice(-quarter)),
        'reads served meanwhile': reader.latencies.length,
        'ms a read took, median': median(reader.latencies),
        'ms a read took, at most': max(reader.latencies),
      },
    };
  } finally {
    await dataSource.destroy();
    await database.drop();
  }
}

/** The log, and live rows that are wrong: what a rebuild is for. */
async function fill(dataSource: DataSource, streams: number): Promise<void> {
  await dataSource.query(
    `INSERT INTO event (stream_id, sequence, id, type, version, data, correlation_id, command, recorded_at)
     SELECT 'account-' || n, sequence, gen_random_uuid(), $2, 1, jsonb_build_object('accountId', n::text, 'amount', n % 7),
            n::text, 'account.deposit', now()
       FROM generate_series(1, $1::int) AS n, generate_series(1, $3::int) AS sequence`,
    [streams, Deposited.type, eventsOfEach],
  );
  await dataSource.query(`INSERT INTO balance SELECT n::text, -1, 0, 0 FROM generate_series(1, $1::int) AS n`, [
    streams,
  ]);
  await dataSource.query('VACUUM ANALYZE event, balance');
}

async function verify(dataSource: DataSource, streams: number): Promise<void> {
  const [{ wrong }] = await dataSource.query<[{ wrong: number }]>(
    `SELECT count(*)::int AS wrong
       FROM generate_series(1, $1::int) AS n FULL JOIN balance ON account_id = n::text
      WHERE (amount, deposits, version) IS DISTINCT FROM ($2::int * (n % 7), $2::int, $2::int)`,
    [streams, eventsOfEach],
  );
  if (wrong > 0) throw new WrongWorkError(`${wrong} rows are wrong after the rebuild`);
}

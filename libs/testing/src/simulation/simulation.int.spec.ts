import {
  admitOnce,
  CreateMessagingTables1760000000001,
  done,
  inTransaction,
  type EventTransport,
} from '@starter/messaging';
import { openTestDataSource, type TestDataSource } from '../test-data-source.js';
import { createTables, type Parts } from './simulated-service.js';
import { simulate } from './simulation.js';

/** `SIMULATION_SEEDS=1000` tries more; `SIMULATION_SEED=n` replays one seed, together with `SIMULATION_SEEDS` so many times. */
const replayed = process.env['SIMULATION_SEED'];
const runs = Number(process.env['SIMULATION_SEEDS'] ?? (replayed === undefined ? 20 : 1));
const firstSeed = Number(replayed ?? Date.now() % 1_000_000_000);

let databases: TestDataSource[];
beforeAll(async () => {
  const sideBySide = Array.from({ length: 6 }, () => openTestDataSource([CreateMessagingTables1760000000001]));
  databases = await Promise.all(sideBySide);
  await Promise.all(databases.map(({ dataSource }) => dataSource.query(createTables)));
});
afterAll(() => Promise.all(databases.map((database) => database.close())));

interface Search {
  readonly among: readonly TestDataSource[];
  readonly plant: Plant;
  readonly patienceMs: number;
  readonly problem: RegExp;
}

type Plant = (database: TestDataSource) => Partial<Parts>;

/** Simulates these seeds, as many side by side as there are databases, until one fails with the problem that is looked for. */
async function simulateAll(
  seeds: readonly number[],
  { among = databases, plant, patienceMs, problem = /./ }: Partial<Search> = {},
) {
  const left = [...seeds];
  const failures: string[] = [];
  const found = () => failures.some((failure) => problem.test(failure));
  const totals = { runs: 0, faults: 0, crashes: 0 };
  const oneByOne = async (database: TestDataSource): Promise<void> => {
    for (let seed = left.shift(); seed !== undefined && !found(); seed = left.shift()) {
      const { problems, faults, crashes } = await simulate(seed, database, plant?.(database), patienceMs);
      totals.runs += 1;
      totals.faults += faults.length;
      totals.crashes += crashes;
      if (problems.length === 0) continue;
      const replay = `seed ${seed}: replay it with SIMULATION_SEED=${seed} SIMULATION_SEEDS=20 npm test -- simulation`;
      failures.push([replay, ...problems, 'the faults were', ...faults].join('\n  '));
    }
  };
  await Promise.all(among.map(oneByOne));
  return { failures, totals };
}

it(
  'lets every message take effect once and in order, whatever is dropped, doubled, overtaken, delayed or crashes',
  async () => {
    const seeds = Array.from({ length: runs }, (_, run) => (replayed === undefined ? firstSeed + run : firstSeed));
    console.info(`seeds ${seeds[0]} to ${seeds.at(-1)}`);
    const { failures, totals } = await simulateAll(seeds);
    console.info(totals);
    if (failures.length > 0) throw new Error(failures.join('\n\n'));
  },
  60_000 + 10_000 * runs,
);

/** What is planted may show in other ways first: seeds are tried until it shows in this one. */
async function expectToFind(plant: Plant, problem: RegExp): Promise<void> {
  const seeds = Array.from({ length: 20 }, (_, run) => firstSeed + run);
  const among = databases.slice(0, 2);
  const { failures, totals } = await simulateAll(seeds, { among, plant, patienceMs: 3_000, problem });
  console.info(totals);
  expect(failures.join('\n\n')).toMatch(problem);
}

/** The same transport with other methods. */
const replace = <T extends object>(transport: T, methods: Partial<T>): T =>
  Object.assign(Object.create(transport) as T, methods);

const eagerRelay = (transport: EventTransport): EventTransport =>
  replace(transport, {
    publish: async (topic, messages) => {
      transport.publish(topic, messages).catch(() => undefined);
      return [];
    },
  });

// The simulation is worth only as much as the bugs that it finds.
it.each<[string, Plant, RegExp]>([
  [
    'an inbox that admits second copies',
    () => ({ admit: async (_, messages) => messages.map(() => true) }),
    /: 2 effects/,
  ],
  [
    'an inbox that commits before the effects',
    ({ dataSource }) => ({ admit: (_, messages) => inTransaction(dataSource, (tx) => admitOnce(tx, messages)) }),
    /: 0 effects/,
  ],
  [
    'an acknowledgement before the effects',
    () => ({
      commands: (transport) =>
        replace(transport, {
          consume: (queue, handler, options) =>
            transport.consume(queue, async (delivery) => (handler(delivery).catch(() => undefined), done), options),
        }),
    }),
    /: 0 effects/,
  ],
  // What is not waited for may be lost, or be overtaken.
  ['a relay that does not wait for the confirm', () => ({ events: eagerRelay }), /: 0 effects|order of log/],
  [
    'a relay that loses the order',
    () => ({
      events: (transport) =>
        replace(transport, { publish: (topic, messages) => transport.publish(topic, messages.toReversed()) }),
    }),
    /order of log/,
  ],
])('finds %s', (_, plant, problem) => expectToFind(plant, problem));

it('finds parking that does not keep what it parks', async () => {
  const sabotage = (sql: string) => Promise.all(databases.map(({ dataSource }) => dataSource.query(sql)));
  await sabotage(`CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
    CREATE TRIGGER forget BEFORE INSERT ON inbox_parked FOR EACH ROW EXECUTE FUNCTION forget()`);
  try {
    await expectToFind(() => ({}), /event of the ordered consumer .*: 0 effects/);
  } finally {
    await sabotage('DROP FUNCTION forget CASCADE');
  }
});

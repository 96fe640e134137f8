import { jest } from '@jest/globals';
import { createTestDatabase, type TestDatabase } from '@starter/testing';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { DataSource } from 'typeorm';

// Each test starts up to twelve processes, one after the other.
jest.setTimeout(180_000);

const script = new URL('event-process.mjs', import.meta.url).pathname;

let database: TestDatabase;
let dataSource: DataSource;
beforeEach(async () => {
  database = await createTestDatabase();
  dataSource = await new DataSource({ type: 'postgres', url: database.url }).initialize();
});
afterEach(async () => {
  await dataSource.destroy();
  await database.drop();
});

/** Processes, one after the other, until one of them has brought all events to an end. */
async function live(order: string, killer: string, failpointOf: (life: number) => string = () => '') {
  const lives: { readonly handled: number }[] = [];
  while (lives.length < 12) {
    let handled = 0;
    const child = fork(script, [database.url, order, killer, String(lives.length + 1)], {
      execArgv: [],
      env: { ...process.env, FAILPOINT: failpointOf(lives.length + 1) },
    });
    child.on('message', () => (handled += 1));
    const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
    lives.push({ handled });
    if (code === 0) return lives;
    if (signal !== 'SIGKILL') throw new Error(`a process ended with ${String(code ?? signal)}; see its output above`);
  }
  throw new Error('twelve processes have died, and more would');
}

const effects = async (): Promise<number[]> => {
  const rows = await dataSource.query<{ n: number }[]>('SELECT n FROM effect ORDER BY n');
  return rows.map(({ n }) => n);
};
const all = Array.from({ length: 60 }, (_, n) => n);
const letters = `SELECT message ->> 'id' AS id, error_type AS "errorType", reason FROM dead_letters`;

// The successor of the one that kills waits behind it, where there is an order.
it.each([
  { order: 'in sequence', without: [31, 51] },
  { order: 'in whatever order', without: [31] },
])(
  'an event that kills its process becomes a dead letter, and no other one: handled $order',
  async ({ order, without }) => {
    expect(await live(order, 'event-31')).toHaveLength(7);
    expect(await effects()).toEqual(all.filter((n) => !without.includes(n)));
    expect(await dataSource.query(letters)).toEqual([
      {
        id: 'event-31',
        errorType: 'CrashedItsProcess',
        reason: expect.stringContaining('mend the handler of test.happened') as string,
      },
    ]);
  },
);

it('holds nothing against events in sequence whose process dies when their handlers have ended', async () => {
  const lives = await live('in sequence', 'none', (life) => (life < 10 ? 'transaction.before-commit:kill' : ''));
  // Each has handled some, or it would have died of something else.
  expect(lives.map(({ handled }) => handled > 0)).toEqual(Array.from({ length: 10 }, () => true));
  expect(await effects()).toEqual(all);
  expect(await dataSource.query(letters)).toEqual([]);
});

import { CreateEventStore1760000000002 } from '@starter/event-sourcing';
import { CreateMessagingTables1760000000001 } from '@starter/messaging';
import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { fork, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';

const processes = 16;
const commands = 1_000;

interface Told {
  readonly applied: number;
  readonly duplicates: number;
  readonly conflicts: number;
  readonly transactions: number;
}

let database: TestDataSource;
let children: ChildProcess[] = [];
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001, CreateEventStore1760000000002]);
  const script = new URL('bank-process.mjs', import.meta.url).pathname;
  children = Array.from({ length: processes }, () => fork(script, [database.url, String(commands)], { execArgv: [] }));
  await Promise.all(children.map((child) => nextMessage<'ready'>(child)));
}, 120_000);
beforeEach(() => database.dataSource.query('TRUNCATE event, outbox, inbox'));
afterAll(async () => {
  children.forEach((child) => child.kill('SIGKILL'));
  await database.close();
});

/** Each process executes its commands at once, every tenth twice, spread over so many actors. */
function hammer(actors: number): Promise<Told[]> {
  const told = children.map((child) => nextMessage<Told>(child));
  children.forEach((child) => child.send(actors));
  return Promise.all(told);
}

async function nextMessage<T>(child: ChildProcess): Promise<T> {
  const exited = once(child, 'exit').then(([code]) => Promise.reject(new Error(`a process ended with ${code}`)));
  const [message] = (await Promise.race([once(child, 'message'), exited])) as [T];
  return message;
}

it.each([1, 1_000])(
  'applies 1 000 commands of each of 16 processes to %i actor(s) exactly once, without gaps',
  async (actors) => {
    const told = await hammer(actors);
    expect(told).toEqual(told.map((one) => ({ ...one, applied: commands, duplicates: commands / 10 })));
    const conflicts = told.reduce((sum, one) => sum + one.conflicts, 0);
    const transactions = told.reduce((sum, one) => sum + one.transactions, 0);
    console.info(`${actors} actor(s): ${transactions} transactions, ${conflicts} conflicts`);

    const streams = await database.dataSource.query<Record<string, number>[]>(
      `SELECT count(*)::int AS events, count(DISTINCT causation_id)::int AS commands, min(sequence)::int AS first,
              max(sequence)::int AS last, sum((data->>'amount')::int)::int AS balance
         FROM event GROUP BY stream_id`,
    );
    const each = (processes * commands) / actors;
    expect(streams).toEqual(
      Array.from({ length: actors }, () => ({ events: each, commands: each, first: 1, last: each, balance: each })),
    );
    const [outbox] = await database.dataSource.query<{ n: number }[]>('SELECT count(*)::int AS n FROM outbox');
    expect(outbox?.n).toBe(processes * commands);
  },
  180_000,
);

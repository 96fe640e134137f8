import { openTestDataSource, type TestDataSource } from '@starter/testing';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { escalateGaps, openGaps } from './gaps.js';
import { readyKeys } from './parked.js';

let database: TestDataSource;
beforeAll(async () => {
  database = await openTestDataSource([CreateMessagingTables1760000000001]);
});
afterAll(() => database.close());
beforeEach(() => database.dataSource.query('TRUNCATE inbox_sequence, inbox_parked, inbox_gap'));

interface Parked {
  readonly key: string;
  readonly sequence: number;
  readonly parkedS?: number;
  readonly dueS?: number;
  readonly failure?: string;
}

async function handled(key: string, sequence: number): Promise<void> {
  await database.dataSource.query(
    `INSERT INTO inbox_sequence (consumer, key, sequence) VALUES ('users', $1, $2)
     ON CONFLICT (consumer, key) DO UPDATE SET sequence = excluded.sequence`,
    [key, sequence],
  );
}

async function park(...all: readonly Parked[]): Promise<void> {
  for (const { key, sequence, parkedS = 0, dueS = 0, failure } of all) {
    await database.dataSource.query(
      `INSERT INTO inbox_parked (consumer, key, sequence, id, type, message, parked_at, due_at, failure)
       VALUES ('users', $1::text, $2, $1 || ($2::bigint)::text, 'UserChanged', '{}', now() - $3 * interval '1 s', now() + $4 * interval '1 s', $5)`,
      [key, sequence, parkedS, dueS, failure],
    );
  }
}

it('finds the keys whose next message may be handled, the longest waiting first', async () => {
  for (const key of ['a', 'b', 'c', 'd', 'e']) await handled(key, 1);
  await park(
    ...[
      { key: 'a', sequence: 2, dueS: -1 },
      { key: 'b', sequence: 2, dueS: -2 },
      { key: 'b', sequence: 3, dueS: -9 },
    ],
    ...[
      { key: 'c', sequence: 2, dueS: 3_600 },
      { key: 'd', sequence: 3, dueS: -9 },
    ],
    ...[
      { key: 'e', sequence: 2, failure: 'broken' },
      { key: 'e', sequence: 3, dueS: -9 },
    ],
  );
  expect(await readyKeys(database.dataSource, 'users', 10)).toEqual(['b', 'a']);
  expect(await readyKeys(database.dataSource, 'users', 1)).toEqual(['b']);
  expect(await readyKeys(database.dataSource, 'others', 10)).toEqual([]);
});

describe('gaps', () => {
  const escalate = () => escalateGaps(database.dataSource, 'users', 60_000, 10);
  const open = () => openGaps(database.dataSource, { consumer: 'users' });

  it('records what is missing for longer than the deadline, by the first message that waits for it', async () => {
    for (const key of ['a', 'b', 'c', 'd']) await handled(key, 1);
    await park(
      ...[
        { key: 'a', sequence: 3, parkedS: 10 },
        { key: 'a', sequence: 4, parkedS: 90 },
      ],
      ...[
        { key: 'b', sequence: 5, parkedS: 30 },
        { key: 'c', sequence: 2, parkedS: 90, failure: 'broken' },
      ],
      ...[{ key: 'd', sequence: 6, parkedS: 120 }],
    );
    const [ofD, ofA] = [
      { key: 'd', missingFrom: 2, missingTo: 5 },
      { key: 'a', missingFrom: 2, missingTo: 2 },
    ];
    expect(await escalate()).toEqual(
      expect.arrayContaining([expect.objectContaining(ofD), expect.objectContaining(ofA)]),
    );
    expect(await open()).toMatchObject([ofD, ofA]);
    expect(await openGaps(database.dataSource, { limit: 1 })).toMatchObject([ofD]);
    expect(await openGaps(database.dataSource, { consumer: 'others' })).toEqual([]);
    // Each is reported again only after a while.
    expect(await escalate()).toEqual([]);
  });

  it('records anew what is missing of a key once a part of it has come', async () => {
    await handled('a', 1);
    await park({ key: 'a', sequence: 5, parkedS: 90 });
    await escalate();
    await handled('a', 3);
    await escalate();
    expect(await open()).toMatchObject([{ key: 'a', missingFrom: 4, missingTo: 4 }]);
  });

  it('reports none that was closed before it was recorded, and forgets it', async () => {
    await handled('a', 4);
    await database.dataSource.query(
      `INSERT INTO inbox_gap (consumer, key, missing_from, missing_to, since) VALUES ('users', 'a', 2, 4, now() - interval '2 min')`,
    );
    expect(await open()).toEqual([]);
    expect(await escalate()).toEqual([]);
    expect(await database.dataSource.query('SELECT FROM inbox_gap')).toEqual([]);
  });
});

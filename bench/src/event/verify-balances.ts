import { Client } from 'pg';
import { account, expectTotals, type Total } from '../account.js';
import { WrongWorkError } from '../rounds.js';

const balances = `SELECT $1 || account_id AS stream, deposits AS count, version AS last, amount FROM balance`;

/** @throws WrongWorkError unless every event is in its row once and covered by the group's offsets */
export async function verifyBalances(url: string, lag: number, expected: readonly Total[]): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    expectTotals((await client.query<Total>(balances, [`${account.name}-`])).rows, expected);
    if (lag > 0) throw new WrongWorkError(`the offsets of ${lag} events were not committed`);
  } finally {
    await client.end();
  }
}

import { Client } from 'pg';
import { expectTotals, type Total } from '../account.js';
import { WrongWorkError } from '../rounds.js';

const events = `SELECT stream_id AS stream, count(*)::int, max(sequence)::int AS last,
                       sum((data->>'amount')::int)::int AS amount
                  FROM event GROUP BY 1`;
/** Events whose command is in the inbox and whose message is in the outbox. */
const complete = `SELECT (SELECT count(*) FROM inbox)::int AS inbox,
                         (SELECT count(*) FROM outbox)::int AS outbox,
                         (SELECT count(*) FROM event
                            JOIN inbox ON message_id = causation_id
                            JOIN outbox ON (message->>'id')::uuid = event.id AND ordering_key = stream_id)::int AS complete`;

/** @throws WrongWorkError unless every command has left one inbox row, one event, one outbox row, and the queue */
export async function verifyCommands(url: string, left: number, expected: readonly Total[]): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    expectTotals((await client.query<Total>(events)).rows, expected);
    const commands = expected.reduce((sum, { count }) => sum + count, 0);
    const { rows } = await client.query<Record<'inbox' | 'outbox' | 'complete', number>>(complete);
    for (const [what, count] of Object.entries(rows[0] ?? {})) {
      if (count !== commands) throw new WrongWorkError(`${what}: ${count} rows for ${commands} commands`);
    }
    if (left > 0) throw new WrongWorkError(`${left} commands were not acknowledged`);
  } finally {
    await client.end();
  }
}

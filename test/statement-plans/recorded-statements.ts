import pg from 'pg';

/** As it was sent. */
export interface SentStatement {
  readonly text: string;
  readonly values: readonly unknown[];
}

type Send = (this: unknown, ...call: unknown[]) => unknown;

/** What `work` sends to the database that reads or writes rows; of a cursor what it reads. */
export async function recordStatements(work: () => Promise<unknown>): Promise<SentStatement[]> {
  const sent: SentStatement[] = [];
  const client = pg.Client.prototype as unknown as { query: Send };
  const { query } = client;
  client.query = function (...call) {
    const [config, values] = call as [string | { text: string; values?: unknown[] }, unknown];
    const text = typeof config === 'string' ? config : config.text;
    const given = (typeof config === 'string' ? values : (config.values ?? values)) ?? [];
    const statement = text.replace(/^\s*DECLARE .*? CURSOR FOR /s, '');
    if (/^\s*(SELECT|WITH|INSERT|UPDATE|DELETE)\b/.test(statement)) {
      sent.push({ text: statement, values: Array.isArray(given) ? given : [] });
    }
    return query.apply(this, call);
  };
  try {
    await work();
  } finally {
    client.query = query;
  }
  return sent;
}

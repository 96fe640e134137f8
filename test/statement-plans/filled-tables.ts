import { Client } from 'pg';

/** How many rows the tables have; of the less important ones a fifth. */
const many = 1_000_000;
const fewer = many / 5;

const uuid = (number: string): string => `('00000000-0000-7000-8000-' || lpad(to_hex(${number}), 12, '0'))::uuid`;
const stream = (number: string): string => `'user-' || lpad((${number})::text, 6, '0')`;
const message = `json_build_object('id', 'm-' || n, 'type', 'type-' || n % 100, 'version', 1, 'source', 's', 'data', '{}'::json)`;
/** Evenly over a time until now. */
const over = (span: string, rows: number): string => `now() - (${rows} - n) * interval '${span}' / ${rows}`;

interface Filled {
  readonly rows: number;
  readonly columns: string;
  /** With `n`, the number of the row from 1 on. */
  readonly values: string;
}

/** Every table that grows with what a service has done or has been given, in the order in which it fills up. */
export const filledTables: Record<string, Filled> = {
  inbox: {
    rows: many,
    columns: 'consumer, message_id, received_at',
    values: `'c' || n % 10, 'm-' || n, ${over('31 days', many)}`,
  },
  inbox_sequence: {
    rows: many,
    columns: 'consumer, key, sequence, parked_to',
    values: `'c' || n % 10, 'key-' || n, 10, CASE WHEN n <= ${many / 10} THEN 21 ELSE 0 END`,
  },
  // As many as a consumer may have, ten of a key: of every other key behind a failure, of the others behind a gap.
  inbox_parked: {
    rows: many,
    columns: 'consumer, key, sequence, id, type, message, parked_at, due_at, failure, error_type, failed_at',
    values: `'c' || key % 10, 'key-' || key, place + behind, 'm-' || key || '-' || place, 'type-' || key % 100, ${message}, at, at,
             CASE failed WHEN true THEN 'it failed' END, CASE failed WHEN true THEN 'Error' END, CASE failed WHEN true THEN at END
        FROM (SELECT *, place + behind = 11 AS failed
                FROM (SELECT n, (n - 1) / 10 + 1 AS key, (n - 1) % 10 + 1 AS place, 10 + (n - 1) / 100 % 2 AS behind,
                             ${over('1 day', many)} AS at FROM numbers) AS parked) AS parked`,
  },
  inbox_gap: {
    rows: fewer,
    columns: 'consumer, key, missing_from, missing_to, since, report_at',
    values: `'c' || n % 10, 'key-' || n, 11, 11, ${over('1 day', fewer)}, now() + interval '1 hour'`,
  },
  inbox_skipped: {
    rows: fewer,
    columns: 'consumer, key, missing_from, missing_to, reason',
    values: `'c' || n % 10, 'key-' || n, 1, 1, 'r'`,
  },
  inbox_discarded: {
    rows: fewer,
    columns: 'consumer, message_id, kind, type, key, reason, message, redrivable, discarded_at',
    values: `'c' || n % 10, 'm-' || n, 'command', 'type-' || n % 100, 'key-' || n, 'r', ${message}, true, ${over('93 days', fewer)}`,
  },
  inbox_suspect: { rows: fewer, columns: 'consumer, message_id', values: `'c' || n % 10, 'm-' || n` },
  outbox: {
    rows: fewer,
    columns: 'position, channel, exchange, address, ordering_key, message',
    values: `n, CASE n % 2 WHEN 0 THEN 'event' ELSE 'command' END, CASE n % 2 WHEN 1 THEN 'commands' END, 'address-' || n % 50,
             'key-' || n, ${message}`,
  },
  // A tenth is tried again some time, an event now and then was refused by its broker, and the oldest are of a kind of their own.
  dead_letter: {
    rows: many,
    columns: `consumer, id, kind, type, key, error_type, reason, origin, attempts, first_failed_at, failed_at, opened_at, message,
              headers, redrivable, status, due_at`,
    values: `CASE WHEN n <= 5 THEN 'rare' ELSE 'c' || n % 10 END, 'm-' || n, CASE n % 10000 WHEN 0 THEN 'outgoing' ELSE 'command' END, CASE WHEN n <= 5 THEN 'rare' ELSE 'type-' || n % 100 END, 'key-' || n,
             CASE WHEN n <= 5 THEN 'Rare' ELSE 'Error' || n % 7 END, 'r', 'o', 1, at, at, at, ${message},
             CASE n % 10000 WHEN 0 THEN '{"channel":"event","address":"a"}'::json END, true,
             CASE n / 10 % 10 WHEN 0 THEN 'scheduled' ELSE 'open' END, CASE n / 10 % 10 WHEN 0 THEN now() + n * interval '1 s' END
        FROM (SELECT n, ${over('30 days', many)} AS at FROM numbers) AS failed`,
  },
  rate_limit_waiting: {
    rows: fewer,
    columns: 'position, type, message_id, address, message, admitted_at',
    values: `n, 'type-' || n % 20, 'm-' || n, 'q', ${message}, CASE WHEN n <= ${fewer / 10} THEN ${over('2 days', fewer / 10)} END`,
  },
  // The newest run or wait, failures lie far between, and of one type there are only the oldest.
  task: {
    rows: many,
    columns: 'id, state, message, consumer, worker, attempt, run, received_at, started_at, due_at, ended_at',
    values: `'m-' || n, state, CASE WHEN n <= 30 THEN '{"type":"rare"}'::json ELSE ${message} END, 'c' || n % 10, 'w', 1, 1, at, at,
             CASE state WHEN 'RETRY' THEN now() END, CASE WHEN state NOT IN ('STARTED', 'PROGRESS', 'RETRY') THEN at END
        FROM (SELECT n, ${over('7.2 days', many)} AS at,
                     CASE WHEN n > ${many * 0.98} THEN CASE n % 3 WHEN 0 THEN 'STARTED' WHEN 1 THEN 'RETRY' ELSE 'PROGRESS' END
                          WHEN n % ${many / 10} = 1 THEN 'FAILURE' ELSE 'SUCCESS' END AS state FROM numbers) AS known`,
  },
  event: {
    rows: many,
    columns:
      'stream_id, sequence, id, type, version, data, correlation_id, causation_id, command, recorded_at, transaction_id',
    values: `${stream('(n - 1) / 10 + 1')}, (n - 1) % 10 + 1, ${uuid('n')}, 'type-' || n % 100, 1, '{}', 'm-' || n, 'm-' || n, 'c',
             ${over('30 days', many)}, n::text::xid8`,
  },
  snapshot: {
    rows: many / 10,
    columns: 'stream_id, version, sequence, event_id, state',
    values: `${stream('n')}, 1, 10, ${uuid('n * 10')}, '{}'`,
  },
  archived_stream: {
    rows: fewer,
    columns: 'stream_id, up_to_sequence, file',
    values: `'gone-' || lpad(n::text, 6, '0'), 5, 'f'`,
  },
  rebuild_checkpoint: { rows: many / 10, columns: 'stream_id, sequence', values: `${stream('n')}, 10` },
  rebuild_moved: { rows: fewer, columns: 'pass, stream_id, head', values: `n % 100, ${stream('n')}, 11` },
  // Of the older half all are erased.
  personal_key: {
    rows: many,
    columns: 'owner, subject, wrapped_key, erased_at',
    values: `'s' || n % 2, 'user-' || n, CASE WHEN n > ${many / 2} THEN 'k' END, CASE WHEN n <= ${many / 2} THEN now() END`,
  },
  idempotency_key: {
    rows: fewer,
    columns: 'key, fingerprint, answer, answered_at',
    values: `'m-' || n, 'f', '{}', ${over('8 days', fewer)}`,
  },
  // The newest run, and a stuck one lies far between.
  workflow_directory: {
    rows: fewer,
    columns: 'workflow_id, name, state, started_at, updated_at, ended_at, oldest_request_at',
    values: `${uuid('n')}, 'w', CASE WHEN n % ${fewer / 10} = 1 THEN 'stuck' WHEN n > ${fewer * 0.98} THEN 'running' ELSE 'completed' END,
             at, at, at, CASE WHEN n > ${fewer * 0.98} THEN at END FROM (SELECT n, ${over('30 days', fewer)} AS at FROM numbers) AS known`,
  },
  workflow_timer: {
    rows: many,
    columns: 'workflow_id, timer_id, due_at',
    values: `${uuid('n')}, 't', now() + n * interval '1 s'`,
  },
  workflow_wait: {
    rows: fewer,
    columns: 'workflow_id, correlation, event_type, match, field, value_hash',
    values: `${uuid('n')}, ${uuid('n')}, 'type-' || n % 10, json_build_object('userId', n::text), 'userId', md5(to_jsonb(n::text)::text)`,
  },
  user_directory: {
    rows: fewer,
    columns: 'user_id, email, name, status, registered_at, version',
    values: `${uuid('n')}, 'e', 'n', CASE n % ${fewer / 10} WHEN 1 THEN 'deactivated' ELSE 'active' END, ${over('300 days', fewer)}, 1`,
  },
  user_export: {
    rows: fewer,
    columns: 'export_id, after, users, written_at',
    values: `'m-' || n / 100, ${uuid('n')}::text, '[]', ${over('7.2 days', fewer)}`,
  },
  email_reservation: { rows: fewer, columns: 'fingerprint, user_id', values: `md5(n::text), ${uuid('n')}` },
};

/** Of a size that does not grow with use. */
export const smallTables = new Set([
  ...[
    'migrations',
    'outbox_lease',
    'outbox_relay',
    'inbox_process',
    'rate_limit',
    'rate_limit_slot',
    'projection_rebuild',
  ],
]);

const small = [
  `INSERT INTO rate_limit (type, rate) SELECT 'type-' || n, '100/h' FROM generate_series(0, ${19}) AS n`,
  `INSERT INTO rate_limit_slot (type) SELECT 'type-' || n FROM generate_series(0, ${19}) AS n`,
  `UPDATE outbox_lease SET holder = ${uuid('1')}, epoch = 1, expires_at = now() + interval '1 hour'`,
  `INSERT INTO outbox_relay (holder, alive_until) SELECT ${uuid('n')}, now() + interval '1 hour' FROM generate_series(1, 3) AS n`,
  `INSERT INTO inbox_process (consumer, process) SELECT 'c' || n % 10, ${uuid('n')} FROM generate_series(1, 30) AS n`,
];

/** Fills a migrated database. Indexes are made behind the rows, which takes a third of the time. */
export async function fillTables(url: string): Promise<void> {
  const client = new Client({ connectionString: url });
  await client.connect();
  try {
    await client.query(`SET synchronous_commit TO off; SET maintenance_work_mem TO '256MB'; SET timezone TO UTC`);
    await client.query(`CREATE TABLE rebuild_checkpoint (stream_id text PRIMARY KEY, sequence bigint NOT NULL);
       CREATE TABLE rebuild_moved (pass int, stream_id text, head bigint NOT NULL, PRIMARY KEY (pass, stream_id))`);
    for (const [table, { rows, columns, values }] of Object.entries(filledTables)) {
      const { rows: indexes } = await client.query<{ drop: string; make: string }>(indexesOf, [table]);
      for (const { drop } of indexes) await client.query(drop);
      const numbers = `WITH numbers AS (SELECT generate_series(1, ${rows}) AS n)`;
      const select = values.includes('FROM numbers') ? values : `${values} FROM numbers`;
      await client.query(`ALTER TABLE ${table} SET UNLOGGED`);
      await client.query(
        `${numbers} INSERT INTO ${table} (${columns}) ${overriding.has(table) ? 'OVERRIDING SYSTEM VALUE' : ''} SELECT ${select}`,
      );
      for (const { make } of indexes) await client.query(make);
    }
    for (const statement of small) await client.query(statement);
    await client.query('VACUUM ANALYZE');
  } finally {
    await client.end();
  }
}

const overriding = new Set(['outbox', 'rate_limit_waiting']);

const indexesOf = `
  SELECT CASE WHEN conname IS NULL THEN format('DROP INDEX %s', indexrelid::regclass)
              ELSE format('ALTER TABLE %s DROP CONSTRAINT %s', indrelid::regclass, conname) END AS drop,
         CASE WHEN conname IS NULL THEN pg_get_indexdef(indexrelid)
              ELSE format('ALTER TABLE %s ADD CONSTRAINT %s %s', indrelid::regclass, conname, pg_get_constraintdef(pg_constraint.oid)) END AS make
    FROM pg_index LEFT JOIN pg_constraint ON conindid = indexrelid AND contype IN ('p', 'u')
   WHERE indrelid = $1::regclass`;

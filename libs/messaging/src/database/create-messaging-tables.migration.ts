import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Tables of the outbox and the inbox; every service has its own in its own database. */
export class CreateMessagingTables1760000000001 implements MigrationInterface {
  readonly name = 'CreateMessagingTables1760000000001';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- A queue: rows are deleted once the broker has confirmed them, so it is empty most of the time.
      CREATE TABLE outbox (
        position bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        channel text NOT NULL CHECK (channel IN ('command', 'event')),
        address text NOT NULL,
        ordering_key text NOT NULL,
        message json NOT NULL,
        written_at timestamptz NOT NULL DEFAULT now()
      ) WITH (autovacuum_vacuum_scale_factor = 0.05, fillfactor = 100);

      CREATE TABLE outbox_lease (
        name text PRIMARY KEY,
        holder uuid NOT NULL,
        expires_at timestamptz NOT NULL
      );

      CREATE TABLE inbox (
        consumer text NOT NULL,
        message_id text NOT NULL,
        received_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer, message_id)
      );
      -- For the purge: rows come in the order of their time, so that a summary of each range of pages is enough.
      CREATE INDEX inbox_received ON inbox USING brin (received_at) WITH (autosummarize = on);

      -- Last sequence handled of each key; 0 when only later ones have arrived so far.
      CREATE TABLE inbox_sequence (
        consumer text NOT NULL,
        key text NOT NULL,
        sequence bigint NOT NULL,
        -- Highest sequence that has ever waited for a predecessor.
        parked_to bigint NOT NULL DEFAULT 0,
        PRIMARY KEY (consumer, key)
      ) WITH (fillfactor = 80);

      -- Waiting for a predecessor, for the next attempt (due_at), or for a human (failure).
      CREATE TABLE inbox_parked (
        consumer text NOT NULL,
        key text NOT NULL,
        sequence bigint NOT NULL,
        message json NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        parked_at timestamptz NOT NULL DEFAULT now(),
        due_at timestamptz NOT NULL DEFAULT now(),
        failure text,
        PRIMARY KEY (consumer, key, sequence)
      );

      -- Refused for good by validation or by a business rule; kept so that nothing vanishes unseen.
      CREATE TABLE inbox_discarded (
        consumer text NOT NULL,
        message_id text NOT NULL,
        type text NOT NULL,
        reason text NOT NULL,
        message json NOT NULL,
        discarded_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer, message_id)
      );
      CREATE INDEX inbox_discarded_at ON inbox_discarded USING brin (discarded_at) WITH (autosummarize = on);`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE outbox, outbox_lease, inbox, inbox_sequence, inbox_parked, inbox_discarded');
  }
}

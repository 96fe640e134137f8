import type { MigrationInterface, QueryRunner } from 'typeorm';

export class CreateEventStore1760000000002 implements MigrationInterface {
  readonly name = 'CreateEventStore1760000000002';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE event (
        stream_id text NOT NULL,
        sequence bigint NOT NULL CHECK (sequence >= 1),
        id uuid NOT NULL,
        type text NOT NULL,
        version integer NOT NULL,
        data jsonb NOT NULL,
        correlation_id text NOT NULL,
        causation_id text,
        -- Type of the command that was decided; with causation_id it tells the path of a request.
        command text NOT NULL,
        recorded_at timestamptz NOT NULL,
        -- Whoever knows a snapshot finds by it what that did not see yet, however late it was committed. It means nothing
        -- outside of this database.
        transaction_id xid8 NOT NULL DEFAULT pg_current_xact_id(),
        PRIMARY KEY (stream_id, sequence)
      );
      CREATE INDEX event_transaction ON event (transaction_id);
      CREATE INDEX event_correlation ON event (correlation_id);
      CREATE INDEX event_recorded ON event USING brin (recorded_at) WITH (autosummarize = on);

      -- States of actors with a long past: a help for loading, and nothing without the log.
      CREATE TABLE snapshot (
        stream_id text PRIMARY KEY,
        version integer NOT NULL,
        -- The last event folded in.
        sequence bigint NOT NULL,
        event_id uuid NOT NULL,
        state json NOT NULL,
        taken_at timestamptz NOT NULL DEFAULT now()
      );

      -- Why a stream does not begin with its first event: where the events up to a sequence are. A stream that went on and was
      -- archived again has a row for each time.
      CREATE TABLE archived_stream (
        stream_id text NOT NULL,
        up_to_sequence bigint NOT NULL,
        file text NOT NULL,
        archived_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (stream_id, up_to_sequence)
      );

      CREATE TABLE projection_rebuild (
        projection text PRIMARY KEY,
        events bigint NOT NULL,
        started_at timestamptz NOT NULL,
        finished_at timestamptz NOT NULL DEFAULT clock_timestamp()
      );`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE event, snapshot, archived_stream, projection_rebuild');
  }
}

import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Tables of the outbox and the inbox; every service has its own in its own database. */
export class CreateMessagingTables1760000000001 implements MigrationInterface {
  readonly name = 'CreateMessagingTables1760000000001';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- A queue: rows are deleted once the broker has confirmed them, so it is empty most of the time. A shard has one relay
      -- at a time and one broker: the even ones Kafka, the odd ones RabbitMQ. Their number is part of the schema, because two
      -- versions of a service that disagree about it would relay a key twice at once.
      CREATE TABLE outbox (
        position bigint GENERATED ALWAYS AS IDENTITY,
        shard smallint NOT NULL GENERATED ALWAYS AS
          (((hashtext(ordering_key) & 7) * 2 + (channel = 'command')::int)::smallint) STORED,
        channel text NOT NULL CHECK (channel IN ('command', 'event')),
        -- Of a command; '' takes it straight into the queue that the address names. An event goes to the topic of that name.
        exchange text CHECK ((channel = 'command') = (exchange IS NOT NULL)),
        address text NOT NULL,
        ordering_key text NOT NULL,
        message json NOT NULL,
        -- How often an operator has had it tried again after its broker had refused it.
        redrives integer NOT NULL DEFAULT 0,
        written_at timestamptz NOT NULL DEFAULT now(),
        -- Each address is read by itself: the backlog of one costs the others nothing.
        PRIMARY KEY (shard, address, position)
      -- Every row is deleted: what a vacuum does not come to makes the table grow, so it does not pause.
      ) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 0, fillfactor = 100);

      -- Instances that could relay; they share the shards evenly.
      CREATE TABLE outbox_relay (
        holder uuid PRIMARY KEY,
        alive_until timestamptz NOT NULL,
        -- The session of its connection: when it has ended, so has the process. NULL behind a pooler.
        backend integer,
        backend_start timestamptz,
        -- It has found nothing and sleeps: whoever writes and is another process wakes it.
        resting boolean NOT NULL DEFAULT false
      ) WITH (fillfactor = 50);

      CREATE TABLE outbox_lease (
        shard smallint PRIMARY KEY,
        holder uuid,
        -- Grows with each change of holder: what a former one still wants to delete is not its own any more.
        epoch bigint NOT NULL DEFAULT 0,
        expires_at timestamptz NOT NULL DEFAULT '-infinity'
      ) WITH (fillfactor = 50);
      INSERT INTO outbox_lease (shard) SELECT generate_series(0, 15);

      CREATE TABLE inbox (
        consumer text NOT NULL,
        message_id text NOT NULL,
        received_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer, message_id)
      );
      -- For the purge.
      CREATE INDEX inbox_received ON inbox (received_at);

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
        -- Of the message, beside it: whoever looks through them must not depend on what stands in the JSON of one.
        id text NOT NULL,
        type text NOT NULL,
        message json NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        parked_at timestamptz NOT NULL DEFAULT now(),
        due_at timestamptz NOT NULL DEFAULT now(),
        failure text,
        -- Where the error came from, when a handler threw one.
        stack text,
        -- Of the dead letter that it is or was: it lasts while an operator has it tried again.
        error_type text,
        first_failed_at timestamptz,
        failed_at timestamptz,
        redrives integer NOT NULL DEFAULT 0,
        history jsonb NOT NULL DEFAULT '[]',
        PRIMARY KEY (consumer, key, sequence)
      );

      -- Messages that did not come within their deadline, until they come or somebody skips them.
      CREATE TABLE inbox_gap (
        consumer text NOT NULL,
        key text NOT NULL,
        missing_from bigint NOT NULL,
        missing_to bigint NOT NULL,
        since timestamptz NOT NULL,
        reports integer NOT NULL DEFAULT 0,
        -- Time of the next error in the log.
        report_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer, key)
      );
      CREATE INDEX inbox_gap_oldest ON inbox_gap (since, consumer, key);
      CREATE INDEX inbox_gap_oldest_of_consumer ON inbox_gap (consumer, since, key);
      CREATE INDEX inbox_gap_report ON inbox_gap (consumer, report_at);

      -- Messages that never came and that an operator has given up.
      CREATE TABLE inbox_skipped (
        consumer text NOT NULL,
        key text NOT NULL,
        missing_from bigint NOT NULL,
        missing_to bigint NOT NULL,
        reason text NOT NULL,
        skipped_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer, key, missing_from)
      );

      -- Refused for good by validation or by a business rule; kept so that nothing vanishes unseen.
      CREATE TABLE inbox_discarded (
        consumer text NOT NULL,
        message_id text NOT NULL,
        kind text NOT NULL CHECK (kind IN ('command', 'event', 'sequenced-event', 'outgoing')),
        type text NOT NULL,
        key text,
        sequence bigint,
        reason text NOT NULL,
        message json NOT NULL,
        -- False when its personal data has been blanked, or when it was refused by its broker.
        redrivable boolean NOT NULL,
        discarded_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer, message_id)
      );
      CREATE INDEX inbox_discarded_in_order ON inbox_discarded (discarded_at, consumer, message_id);
      CREATE INDEX inbox_discarded_of_consumer ON inbox_discarded (consumer, discarded_at, message_id);
      CREATE INDEX inbox_discarded_of_type ON inbox_discarded (type, discarded_at, consumer, message_id);
      CREATE INDEX inbox_discarded_key ON inbox_discarded (key, consumer);
      CREATE INDEX inbox_discarded_id ON inbox_discarded (message_id);

      -- Messages that may have been in hand when a connection or a process ended, until they come to an end of their own.
      CREATE TABLE inbox_suspect (
        consumer text NOT NULL,
        message_id text NOT NULL,
        -- How often it was begun since then.
        starts integer NOT NULL DEFAULT 1,
        since timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer, message_id)
      );
      -- For the purge.
      CREATE INDEX inbox_suspect_since ON inbox_suspect (since);

      -- Processes that consume events and have not said that they end.
      CREATE TABLE inbox_process (
        consumer text NOT NULL,
        process uuid NOT NULL,
        since timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer, process)
      );

      -- Limits that were set at run time, such as 100/h, or none; they come before those in the code.
      CREATE TABLE rate_limit (
        type text PRIMARY KEY,
        rate text NOT NULL,
        set_at timestamptz NOT NULL DEFAULT now()
      );

      CREATE TABLE rate_limit_slot (
        type text PRIMARY KEY,
        -- When the next message would be on time.
        next_at timestamptz NOT NULL DEFAULT '-infinity',
        -- How many messages the last statement let go.
        granted integer NOT NULL DEFAULT 0,
        -- The rate that it had, for those who ask when what waits is due.
        every interval NOT NULL DEFAULT '0',
        burst integer NOT NULL DEFAULT 1
      ) WITH (fillfactor = 50);

      -- Commands over their limit, until they are handled, and retries that may pass when they come.
      CREATE TABLE rate_limit_waiting (
        position bigint GENERATED ALWAYS AS IDENTITY,
        type text NOT NULL,
        message_id text NOT NULL,
        address text NOT NULL,
        -- The one that is to be made: this counts, and not what stands in the message.
        attempt integer NOT NULL DEFAULT 1,
        -- NULL of a retry: the broker has it.
        message json CHECK (message IS NOT NULL OR admitted_at IS NOT NULL),
        -- Sent to the queue again, which it may pass now.
        admitted_at timestamptz,
        -- It takes a slot when it passes, and has not asked for it.
        owes boolean NOT NULL DEFAULT false,
        PRIMARY KEY (type, message_id)
      );
      CREATE INDEX rate_limit_waiting_next ON rate_limit_waiting (type, position) WHERE admitted_at IS NULL;
      -- For the purge.
      CREATE INDEX rate_limit_waiting_admitted ON rate_limit_waiting (admitted_at) WHERE admitted_at IS NOT NULL;

      -- What consumers could not handle, and events that wait long for their next attempt. A row lasts until its message has
      -- taken effect or is discarded.
      CREATE TABLE dead_letter (
        consumer text NOT NULL,
        -- Of the message; of bytes that are none, a digest.
        id text NOT NULL,
        -- Outgoing: its broker refused it. Its headers say where it was to go, and the events behind it in its key wait.
        kind text NOT NULL CHECK (kind IN ('command', 'event', 'outgoing')),
        type text,
        key text,
        sequence bigint,
        error_type text NOT NULL,
        reason text NOT NULL,
        -- Where the error came from, when a handler threw one.
        stack text,
        origin text NOT NULL,
        attempts integer NOT NULL,
        first_failed_at timestamptz NOT NULL,
        failed_at timestamptz NOT NULL,
        -- By the clock of the database: a redrive of all leaves alone what fails meanwhile.
        opened_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        -- NULL when the bytes are no message: then they are in raw and headers.
        message json,
        raw bytea,
        headers json,
        redrivable boolean NOT NULL,
        status text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'scheduled')),
        -- Of a scheduled event: when it is tried, or tried by somebody else.
        due_at timestamptz,
        redrives integer NOT NULL DEFAULT 0,
        -- Earlier failures, each with the time of its redrive.
        history jsonb NOT NULL DEFAULT '[]',
        PRIMARY KEY (consumer, id)
      );
      -- For the lists of operators, in order: of all, and by each of their filters.
      CREATE INDEX dead_letter_in_order ON dead_letter (status, failed_at, consumer, id);
      CREATE INDEX dead_letter_of_consumer ON dead_letter (consumer, status, failed_at, id);
      CREATE INDEX dead_letter_of_type ON dead_letter (type, status, failed_at, consumer, id);
      CREATE INDEX dead_letter_of_error ON dead_letter (error_type, status, failed_at, consumer, id);
      CREATE INDEX dead_letter_key ON dead_letter (key, consumer);
      CREATE INDEX dead_letter_id ON dead_letter (id);
      CREATE INDEX dead_letter_outgoing_event ON dead_letter (key) WHERE kind = 'outgoing' AND headers ->> 'channel' = 'event';
      CREATE INDEX dead_letter_due ON dead_letter (consumer, due_at) WHERE status = 'scheduled';
      CREATE INDEX inbox_parked_failed ON inbox_parked (consumer, key, sequence) WHERE failure IS NOT NULL OR redrives > 0;
      CREATE INDEX inbox_parked_failed_id ON inbox_parked (consumer, id) WHERE failure IS NOT NULL OR redrives > 0;

      -- What operators work with: the dead letters of all consumers, those of ordered ones included.
      CREATE VIEW dead_letters AS
        SELECT consumer, id, kind, type, key, sequence, error_type, reason, stack, origin, attempts, first_failed_at, failed_at,
               opened_at, message, raw, headers, redrivable, status, redrives, history
          FROM dead_letter
        UNION ALL
        SELECT consumer, id, 'sequenced-event', type, key, sequence,
               coalesce(error_type, history -> -1 ->> 'errorType', 'Error'), coalesce(failure, history -> -1 ->> 'reason', ''), stack,
               consumer, attempts, coalesce(first_failed_at, parked_at), coalesce(failed_at, parked_at),
               coalesce(failed_at, parked_at), message, NULL, NULL, true,
               CASE WHEN failure IS NULL THEN 'scheduled' ELSE 'open' END, redrives, history
          FROM inbox_parked WHERE failure IS NOT NULL OR redrives > 0
        UNION ALL
        SELECT consumer, message_id, kind, type, key, sequence, 'Discarded', reason, NULL, consumer, 1, discarded_at,
               discarded_at, discarded_at, message, NULL, NULL, redrivable, 'discarded', 0, '[]'::jsonb
          FROM inbox_discarded;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query(
      `DROP VIEW dead_letters;
       DROP TABLE outbox, outbox_relay, outbox_lease, inbox, inbox_sequence, inbox_parked, inbox_gap, inbox_skipped,
                  inbox_discarded, inbox_suspect, inbox_process, dead_letter, rate_limit, rate_limit_slot, rate_limit_waiting`,
    );
  }
}

import type { MigrationInterface, QueryRunner } from 'typeorm';

export class CreateTaskTable1760000000005 implements MigrationInterface {
  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      -- The lives of commands that are tasks.
      CREATE TABLE task (
        -- Of the command.
        id text PRIMARY KEY,
        state text NOT NULL,
        -- The command, without plain personal data; NULL when it was revoked before it came.
        message json,
        -- The queue in which it came.
        consumer text,
        worker text,
        attempt integer NOT NULL DEFAULT 0,
        -- Grows with each start: whoever has started before may not write any more.
        run integer NOT NULL DEFAULT 0,
        progress json,
        saved_state json,
        result json,
        error text,
        revoked boolean NOT NULL DEFAULT false,
        received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        started_at timestamptz,
        heartbeat_at timestamptz,
        due_at timestamptz,
        ended_at timestamptz
      ) WITH (fillfactor = 70);
      -- For the lists.
      CREATE INDEX task_of_state ON task (state, received_at, id);
      CREATE INDEX task_of_type ON task ((message ->> 'type'), state, received_at, id);
      CREATE INDEX task_running ON task (started_at, id) WHERE state IN ('STARTED', 'PROGRESS');
      CREATE INDEX task_retry ON task (due_at) WHERE state = 'RETRY';
      -- For the purge.
      CREATE INDEX task_ended ON task (ended_at);`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE task');
  }
}

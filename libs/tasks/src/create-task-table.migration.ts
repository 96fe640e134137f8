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
      CREATE INDEX task_received ON task (received_at, id);
      CREATE INDEX task_open ON task (state) WHERE ended_at IS NULL;
      -- For the purge.
      CREATE INDEX task_ended ON task (ended_at);`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE task');
  }
}

import type { MigrationInterface, QueryRunner } from 'typeorm';

export class CreateWorkflowDirectory1760000000200 implements MigrationInterface {
  readonly name = 'CreateWorkflowDirectory1760000000200';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE workflow_directory (
        workflow_id uuid PRIMARY KEY,
        name text NOT NULL,
        state text NOT NULL CHECK (state IN ('running', 'completed', 'compensating', 'failed', 'stuck')),
        started_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        ended_at timestamptz,
        -- To the minute, so that a workflow whose requests are answered within one is not written for each of them.
        oldest_request_at timestamptz,
        outcome jsonb
      );
      CREATE INDEX workflow_directory_newest ON workflow_directory (started_at DESC, workflow_id DESC);
      CREATE INDEX workflow_directory_state ON workflow_directory (state, started_at DESC, workflow_id DESC);
      CREATE INDEX workflow_directory_oldest_request ON workflow_directory (oldest_request_at) WHERE oldest_request_at IS NOT NULL;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE workflow_directory');
  }
}

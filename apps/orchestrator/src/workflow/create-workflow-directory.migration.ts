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
        updated_at timestamptz NOT NULL
      );
      CREATE INDEX workflow_directory_newest ON workflow_directory (started_at DESC, workflow_id DESC);
      CREATE INDEX workflow_directory_state ON workflow_directory (state, started_at DESC, workflow_id DESC);`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE workflow_directory');
  }
}

import type { MigrationInterface, QueryRunner } from 'typeorm';

export class CreateWorkflowWaits1760000000202 implements MigrationInterface {
  readonly name = 'CreateWorkflowWaits1760000000202';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE workflow_wait (
        workflow_id uuid NOT NULL,
        correlation uuid NOT NULL,
        event_type text NOT NULL,
        match jsonb NOT NULL,
        -- The longest of the values to match, which tells most: an event finds its waits by it. Hashed, because an index takes no long texts.
        field text NOT NULL,
        value_hash text NOT NULL,
        PRIMARY KEY (workflow_id, correlation)
      );
      CREATE INDEX workflow_wait_value ON workflow_wait (event_type, field, value_hash);`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE workflow_wait');
  }
}

import type { MigrationInterface, QueryRunner } from 'typeorm';

export class CreateWorkflowTimers1760000000201 implements MigrationInterface {
  readonly name = 'CreateWorkflowTimers1760000000201';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE workflow_timer (
        workflow_id uuid NOT NULL,
        timer_id text NOT NULL,
        due_at timestamptz NOT NULL,
        PRIMARY KEY (workflow_id, timer_id)
      );
      CREATE INDEX workflow_timer_due ON workflow_timer (due_at);`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE workflow_timer');
  }
}

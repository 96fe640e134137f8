import type { MigrationInterface, QueryRunner } from 'typeorm';

/** The first answer to each Idempotency-Key of the service's HTTP edge. */
export class CreateIdempotencyKeys1760000000003 implements MigrationInterface {
  readonly name = 'CreateIdempotencyKeys1760000000003';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE idempotency_key (
        key text PRIMARY KEY,
        fingerprint text NOT NULL,
        answer json NOT NULL,
        answered_at timestamptz NOT NULL DEFAULT now()
      );
      CREATE INDEX idempotency_key_answered ON idempotency_key (answered_at);`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE idempotency_key');
  }
}

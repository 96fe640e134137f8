import type { MigrationInterface, QueryRunner } from 'typeorm';

/** Keys of the subjects whose data the service seals or opens. */
export class CreatePersonalKeys1760000000004 implements MigrationInterface {
  readonly name = 'CreatePersonalKeys1760000000004';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE personal_key (
        -- Service that seals with it.
        owner text NOT NULL,
        subject text NOT NULL,
        -- Wrapped in the master key of the deployment.
        wrapped_key text,
        created_at timestamptz NOT NULL DEFAULT now(),
        erased_at timestamptz,
        PRIMARY KEY (owner, subject),
        CHECK ((wrapped_key IS NULL) = (erased_at IS NOT NULL))
      );
      -- For one that tells whether the master key is the right one, however many are erased.
      CREATE INDEX personal_key_in_use ON personal_key (owner) WHERE wrapped_key IS NOT NULL;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE personal_key');
  }
}

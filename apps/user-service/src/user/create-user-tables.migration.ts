import type { MigrationInterface, QueryRunner } from 'typeorm';

export class CreateUserTables1760000000100 implements MigrationInterface {
  readonly name = 'CreateUserTables1760000000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE user_directory (
        user_id uuid PRIMARY KEY,
        -- Sealed, like the name.
        email text NOT NULL,
        name text NOT NULL,
        status text NOT NULL,
        registered_at timestamptz NOT NULL,
        version integer NOT NULL
      );
      CREATE INDEX user_directory_newest ON user_directory (registered_at DESC, user_id DESC);

      -- What the task user.export has copied, in parts.
      CREATE TABLE user_export (
        export_id text NOT NULL,
        -- The last user of the part before.
        after text NOT NULL,
        -- Rows of the directory, as sealed as there.
        users json NOT NULL,
        written_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (export_id, after)
      );
      CREATE INDEX user_export_written ON user_export (written_at);

      CREATE TABLE email_reservation (
        -- Keyed hash of the address.
        fingerprint text PRIMARY KEY,
        user_id uuid NOT NULL UNIQUE,
        -- Until then another request for it is answered with 409; null once the user is registered.
        claimed_until timestamptz
      );
      CREATE INDEX email_reservation_claims ON email_reservation (claimed_until) WHERE claimed_until IS NOT NULL;`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE user_directory, user_export, email_reservation');
  }
}

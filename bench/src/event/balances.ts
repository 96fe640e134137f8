import { Column, Entity, PrimaryColumn, type MigrationInterface, type QueryRunner } from 'typeorm';

/** The rows that the events are projected to. */
@Entity('balance')
export class BalanceRow {
  @PrimaryColumn('text', { name: 'account_id' })
  accountId: string;

  @Column('integer')
  amount: number;

  /** Number of deposits. */
  @Column('integer')
  deposits: number;

  /** Sequence of the last event that is in this row. */
  @Column('integer')
  version: number;
}

export class CreateBalances1760000000100 implements MigrationInterface {
  readonly name = 'CreateBalances1760000000100';

  async up(runner: QueryRunner): Promise<void> {
    await runner.query(`
      CREATE TABLE balance (
        account_id text PRIMARY KEY,
        amount integer NOT NULL,
        deposits integer NOT NULL,
        version integer NOT NULL
      ) WITH (fillfactor = 80)`);
  }

  async down(runner: QueryRunner): Promise<void> {
    await runner.query('DROP TABLE balance');
  }
}

/** Adds deposits, any number of each account: account ids, amounts, sequences. */
export const addDeposits = {
  name: 'balance-add',
  text: `INSERT INTO balance AS stored (account_id, amount, deposits, version)
         SELECT account_id, sum(amount), count(*), max(version)
           FROM unnest($1::text[], $2::int[], $3::int[]) AS deposit (account_id, amount, version) GROUP BY 1
         ON CONFLICT (account_id) DO UPDATE
            SET amount = stored.amount + excluded.amount, deposits = stored.deposits + excluded.deposits,
                version = excluded.version`,
};

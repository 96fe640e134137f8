import type { DataSource } from 'typeorm';
import { runStatement, type Statement, type Transaction } from '../database/transaction.js';

const mark: Statement = {
  name: 'suspect-mark',
  text: `WITH asked AS (SELECT unnest($2::text[]) AS message_id),
              new AS (INSERT INTO inbox_suspect (consumer, message_id) SELECT $1, message_id FROM asked ORDER BY message_id
                      ON CONFLICT DO NOTHING)
         SELECT message_id AS id, starts FROM inbox_suspect JOIN asked USING (message_id) WHERE consumer = $1`,
};

const count: Statement = {
  name: 'suspect-start',
  text: `INSERT INTO inbox_suspect (consumer, message_id) VALUES ($1, $2)
         ON CONFLICT (consumer, message_id) DO UPDATE SET starts = inbox_suspect.starts + 1`,
};

const clear: Statement = {
  name: 'suspect-clear',
  text: `DELETE FROM inbox_suspect WHERE consumer = $1 AND message_id = ANY($2)`,
};

/** Messages of a consumer that have begun and come to no end, as far as a process may have died of them. */
export class SuspectList {
  /** They came to an end here, and could not be cleared. */
  private readonly survived = new Set<string>();

  constructor(
    private readonly dataSource: DataSource,
    private readonly consumer: string,
  ) {}

  /**
   * They are about to begin, in company.
   * @returns those that may not, because they have begun before and come to no end, with how often that was
   * @throws DatabaseUnavailableError
   */
  async mark(ids: readonly string[]): Promise<ReadonlyMap<string, number>> {
    if (ids.some((id) => this.survived.has(id))) await this.clear([]);
    // What the statement inserts itself it does not see.
    const rows = await this.run<{ id: string; starts: number }>(mark, [...new Set(ids)]);
    return new Map(rows.map(({ id, starts }) => [id, starts]));
  }

  /** It is about to begin in its own turn. @throws DatabaseUnavailableError */
  async count(id: string): Promise<void> {
    await this.run(count, id);
  }

  /** Whatever the process dies of from now on, it is not these. @throws DatabaseUnavailableError; then they are cleared later */
  async clear(ids: readonly string[]): Promise<void> {
    for (const id of ids) this.survived.add(id);
    const cleared = [...this.survived];
    await this.run(clear, cleared);
    for (const id of cleared) this.survived.delete(id);
  }

  private run<Row extends object>(statement: Statement, about: unknown): Promise<(Row & Record<string, unknown>)[]> {
    return runStatement(this.dataSource, statement, [this.consumer, about]);
  }
}

const acquit: Statement = {
  name: 'suspect-acquit',
  text: `DELETE FROM inbox_suspect USING unnest($1::text[], $2::text[]) AS redriven (consumer, id)
          WHERE inbox_suspect.consumer = redriven.consumer AND message_id = redriven.id`,
};

/** Somebody has mended what killed the process, and sends them again: nothing is held against them. */
export async function acquitSuspects(
  tx: Transaction,
  redriven: readonly { readonly consumer: string; readonly id: string }[],
): Promise<void> {
  await tx.query(acquit, [redriven.map(({ consumer }) => consumer), redriven.map(({ id }) => id)]);
}

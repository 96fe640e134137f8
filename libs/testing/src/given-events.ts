import { projectAll, type Projection, type RecordedEvent, type Rejection } from '@starter/event-sourcing';
import { inTransaction, type Draft, type Transaction } from '@starter/messaging';
import type { DataSource } from 'typeorm';
import { stored } from './stored.js';

interface Projected {
  /** Exactly these rows, in the order of the first column. */
  thenRows(table: string, ...rows: object[]): Promise<void>;
  /** Inline projections only: the command that leads to the events is refused. */
  thenRefused(reason: string): Promise<void>;
}

/**
 * The specification of a projection: `await givenEvents([UserRegistered.of(ada), UserActivated.of(…)], [UserRegistered.of(bob)])
 * .project(userDirectory, dataSource).thenRows('user_directory', …)`, one array for each stream, oldest event first.
 * The handlers run on the real database, once with all events in one batch and once event by event, and have to come to
 * the same both times. Nothing of it stays in the database.
 */
export function givenEvents(...streams: readonly (readonly Draft[])[]) {
  const histories = streams.map((drafts) => drafts.map((draft, index) => stored(draft, index + 1)));
  return {
    project(projection: Projection, dataSource: DataSource): Projected {
      const inEachWay = async <T>(look: (tx: Transaction, refusal: Rejection | undefined) => Promise<T>) => {
        const together = await rehearse(dataSource, async (tx) =>
          look(tx, await projectAll(tx, [projection], histories)),
        );
        const apart = await rehearse(dataSource, async (tx) =>
          look(tx, await projectEach(tx, projection, histories.flat())),
        );
        expect(apart).toEqual(together);
        return together;
      };
      return {
        async thenRows(table, ...rows) {
          const select = `SELECT * FROM ${dataSource.driver.escape(table)} ORDER BY 1`;
          const seen = await inEachWay((tx, refusal) =>
            refusal ? Promise.resolve(refusal) : tx.manager.query(select),
          );
          expect(seen).toEqual(rows);
        },
        async thenRefused(rejected) {
          expect(await inEachWay((_, refusal) => Promise.resolve(refusal))).toEqual({ rejected });
        },
      };
    },
  };
}

async function projectEach(
  tx: Transaction,
  projection: Projection,
  events: readonly RecordedEvent[],
): Promise<Rejection | undefined> {
  for (const event of events) {
    const refusal = await projectAll(tx, [projection], [[event]]);
    if (refusal) return refusal;
  }
  return undefined;
}

/** Runs `work` in a transaction, and takes everything back. */
async function rehearse<T>(dataSource: DataSource, work: (tx: Transaction) => Promise<T>): Promise<T> {
  const takenBack = new Error('rehearsed');
  let result: { readonly value: T } | undefined;
  await inTransaction(dataSource, async (tx) => {
    result = { value: await work(tx) };
    throw takenBack;
  }).catch((error: unknown) => {
    if (error !== takenBack) throw error;
  });
  return (result as { readonly value: T }).value;
}

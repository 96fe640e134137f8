import { appCases } from './app.cases.js';
import { eventSourcingCases } from './event-sourcing.cases.js';
import { messagingCases } from './messaging.cases.js';
import { readSourceStatements } from './source-statements.js';
import { call, type StatementCases } from './statement-case.js';

export const { constants, makers, unnamed, retained, misplaced } = await readSourceStatements();
/** Rows kept for so long that a part of them is too old. */
const purgeCases = [...retained.keys()].map(
  (table) => [`purge-${table}`, call(86_400 * 7, 1_000, '1970-01-01')] as const,
);
export const cases: StatementCases = {
  ...messagingCases,
  ...eventSourcingCases,
  ...appCases,
  ...Object.fromEntries(purgeCases),
};

/** All that is sent: what is a constant, and what is made from a name. */
export const statements = [
  ...constants.values(),
  ...[...retained].map(([table, column]) => makers.get('purgeStatement')!(table as never, column as never)),
];

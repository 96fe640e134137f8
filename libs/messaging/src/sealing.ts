import type { Transaction } from './database/transaction.js';
import { TerminalError } from './errors.js';
import type { PersonalItem } from './personal-fields.js';

/** Keeps personal data from being stored in plain. A library brings it: see {@link Extension}. */
export interface Sealing {
  /** @throws ValidationError when the item names no subject, or a sealed field is of somebody else than it */
  check(item: PersonalItem): void;
  /** The data of each item with its plain personal fields sealed, undefined where the subject was erased. */
  seal(tx: Transaction, items: readonly PersonalItem[]): Promise<unknown[]>;
}

/** Why nothing can be done any more for somebody whose key was destroyed. */
export const erasedReason = (subject: string): string => `the subject ${subject} was erased`;

/** Of a service that has none. Data without personal fields needs no sealing, and never comes here. */
export const noSealing: Sealing = {
  check: refuse,
  seal: async (_, items) => items.map(refuse),
};

function refuse({ definition: { type } }: PersonalItem): never {
  throw new TerminalError(`${type} has personal fields, which nobody seals here; import PersonalDataModule`);
}

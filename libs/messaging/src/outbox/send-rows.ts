import { NotConfirmedError } from '../errors.js';
import type { OutboxRow } from './outbox-rows.js';

export interface Attempt {
  readonly row: OutboxRow;
  /** Why its broker does not have it, as far as we know; none when it has. */
  readonly error?: unknown;
}

/** Whether the broker did not answer; anything else that goes wrong is about the message. */
export const isUnanswered = (error: unknown): boolean => error instanceof NotConfirmedError;

/**
 * Sends rows together. When the broker refuses them, they are halved until it is known which of them it refuses; what is
 * behind one of those in its key is not sent, and not among the attempts.
 */
export async function sendRows(
  rows: readonly OutboxRow[],
  send: (rows: readonly OutboxRow[]) => Promise<unknown>,
): Promise<Attempt[]> {
  try {
    await send(rows);
    return rows.map((row) => ({ row }));
  } catch (error) {
    if (rows.length === 1 || isUnanswered(error)) return rows.map((row) => ({ row, error }));
  }
  const middle = Math.ceil(rows.length / 2);
  const first = await sendRows(rows.slice(0, middle), send);
  const rest = rows.slice(middle);
  const lost = first.find(({ error }) => isUnanswered(error));
  if (lost) return [...first, ...rest.map((row) => ({ row, error: lost.error }))];
  const stopped = new Set(first.filter(({ error }) => error !== undefined).map(({ row }) => row.ordering_key));
  const second = rest.filter((row) => !stopped.has(row.ordering_key));
  return second.length === 0 ? first : [...first, ...(await sendRows(second, send))];
}

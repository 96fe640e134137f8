import { NotConfirmedError, positionsOf, RefusedError, type PublishResult } from '../errors.js';
import type { Message } from '../message.js';
import type { RecordPosition } from './record-position.js';

/**
 * Writes what can be encoded; what cannot is refused by itself. What follows it in its key is not written, so that a key
 * never overtakes itself.
 */
export async function publishEncoded<R>(
  messages: readonly Message[],
  encode: (message: Message) => R,
  write: (records: readonly R[]) => Promise<readonly PublishResult[]>,
): Promise<RecordPosition[]> {
  const blocked = new Set<string | undefined>();
  const results: (PublishResult | undefined)[] = [];
  const records: R[] = [];
  for (const message of messages) {
    const encoded = blocked.has(message.subject) ? behindRefused(message) : encodedOrRefused(message, encode);
    if (encoded instanceof NotConfirmedError || encoded instanceof RefusedError) {
      // Without a subject there is no key, and so no order to keep.
      if (message.subject) blocked.add(message.subject);
      results.push(encoded);
    } else {
      results.push(undefined);
      records.push(encoded);
    }
  }
  const written = (records.length > 0 ? await write(records) : [])[Symbol.iterator]();
  return positionsOf(results.map((result) => result ?? (written.next().value as PublishResult)));
}

export const behindRefused = ({ id, type }: Message): NotConfirmedError =>
  new NotConfirmedError(
    `message ${id} (${type}) was not written, because one before it of its key was refused: publish it after that one`,
  );

function encodedOrRefused<R>(message: Message, encode: (message: Message) => R): R | RefusedError {
  try {
    return encode(message);
  } catch (error) {
    if (error instanceof RefusedError) return error;
    throw error;
  }
}

import { UndecodableError } from '../errors.js';
import { errorText, stackOf } from '../logger.js';
import type { Message } from '../message.js';
import { deadLetter, type Outcome } from '../outcome.js';
import { deadLetterHeaders } from './delivery.js';
import type { EventRecord, RecordHeaders } from './event-record.js';

/** A message that its consumer could not handle, or bytes that are none. */
export interface DeadLetterDelivery {
  /** None when the bytes are no message. */
  readonly message?: Message;
  readonly errorType: string;
  readonly reason: string;
  /** Of the error that a handler threw. */
  readonly stack?: string | undefined;
  /** Queue or `topic[partition]@offset` that it came from. */
  readonly origin: string;
  /** Attempts made; 0 when it was never handed to a handler. */
  readonly attempts: number;
  /** When it became a dead letter: ISO 8601 instant. */
  readonly time: string;
  /** As the broker keeps it, without the headers that only say why it is a dead letter. */
  readonly raw: {
    readonly key?: Buffer | null;
    readonly content: Buffer | null;
    readonly headers: Readonly<Record<string, unknown>>;
  };
}

/** The broker forgets the dead letter once this resolves; after a rejection it is given again, a second later. */
export type DeadLetterHandler = (letter: DeadLetterDelivery) => Promise<void>;

/** A dead letter that outgrows the broker's limit could never be written, and would hold its queue or partition for ever. */
export const longestReason = 4000;

/** What becomes of bytes whose decoding threw. A defect of the decoder is one of ours, and says where it is. */
export function undecodedAs(error: unknown): Extract<Outcome, { kind: 'dead-letter' }> {
  if (error instanceof UndecodableError) {
    return deadLetter(error.message, error.name);
  }
  const { name } = error as Partial<Error>;
  return deadLetter(`defect of the decoder: ${errorText(error)}`, name, stackOf(error));
}

/** The record that tells a consumer of a dead-letter topic all of it; `group` is the one that could not handle it. */
export function deadLetterRecord(letter: DeadLetterDelivery, group: string): EventRecord {
  const { raw, reason, errorType, stack, origin, attempts, time } = letter;
  const headers = {
    // A header without a value can be read but not written.
    ...Object.fromEntries(Object.entries(raw.headers as RecordHeaders).filter(([, value]) => value !== null)),
    [deadLetterHeaders.reason]: reason,
    [deadLetterHeaders.errorType]: errorType,
    ...(stack === undefined ? {} : { [deadLetterHeaders.stack]: stack }),
    [deadLetterHeaders.origin]: origin,
    [deadLetterHeaders.consumer]: group,
    [deadLetterHeaders.attempts]: String(attempts),
    [deadLetterHeaders.time]: time,
  };
  return { key: raw.key ?? null, value: raw.content, headers };
}

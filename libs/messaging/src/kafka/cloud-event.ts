import { isUtf8 } from 'node:buffer';
import { InvalidMessageError, UndecodableError } from '../errors.js';
import type { Message, ReplyAddress } from '../message.js';
import { encodeJson } from '../transport/encode-json.js';
import type { EventRecord, RecordHeaders } from '../transport/event-record.js';

/**
 * CloudEvents 1.0, binary mode of the Kafka binding: the key is the subject, the value is the JSON of `data`, everything
 * else stands in `ce_` headers. The names of our extension attributes are lower-case alphanumerics, as CloudEvents asks.
 * @throws InvalidMessageError when the message has no subject, or its data is not JSON
 */
export function encodeCloudEvent(message: Message): EventRecord & { readonly key: Buffer; readonly value: Buffer } {
  const { subject } = message;
  if (!subject) {
    throw new InvalidMessageError(
      `message ${message.id} (${message.type}) has no subject: set it to the stream id, it is the key of the event`,
    );
  }
  const headers: RecordHeaders = {
    ce_specversion: '1.0',
    ce_id: message.id,
    ce_type: message.type,
    ce_source: message.source,
    ce_time: message.time,
    ce_subject: subject,
    ce_dataversion: String(message.version),
    ce_correlationid: message.correlationId,
    'content-type': 'application/json',
  };
  if (message.sequence !== undefined) headers['ce_sequence'] = String(message.sequence);
  if (message.causationId !== undefined) headers['ce_causationid'] = message.causationId;
  if (message.traceparent !== undefined) headers['ce_traceparent'] = message.traceparent;
  if (message.replyTo !== undefined) {
    headers['ce_replyto'] = message.replyTo.address;
    headers['ce_replysubject'] = message.replyTo.subject;
  }
  return { key: Buffer.from(subject), value: encodeJson(message), headers };
}

/**
 * Tolerant of plain clients: required are `ce_id`, `ce_type`, a key or `ce_subject`, and a JSON value.
 * Defaults: version 1, source `unknown`, time = when the log took the record, correlation id = id.
 * @throws UndecodableError with the reason
 */
export function decodeCloudEvent(record: EventRecord & { readonly timestamp?: number }): Message {
  const { headers } = record;
  const id = requiredText(headers, 'ce_id');
  // Assigned rather than spread: this runs for every record, and a spread costs as much as all the rest.
  const message: { -readonly [Field in keyof Message]: Message[Field] } = {
    id,
    type: requiredText(headers, 'ce_type'),
    version: wholeNumber(headers, 'ce_dataversion') ?? 1,
    source: text(headers, 'ce_source') ?? 'unknown',
    time: text(headers, 'ce_time') ?? new Date(record.timestamp ?? Date.now()).toISOString(),
    subject: subjectOf(record),
    correlationId: text(headers, 'ce_correlationid') ?? id,
    data: parseJson(record.value),
  };
  const sequence = wholeNumber(headers, 'ce_sequence');
  const causationId = text(headers, 'ce_causationid');
  const traceparent = text(headers, 'ce_traceparent');
  const replyTo = replyAddress(headers);
  if (sequence !== undefined) message.sequence = sequence;
  if (causationId !== undefined) message.causationId = causationId;
  if (traceparent !== undefined) message.traceparent = traceparent;
  if (replyTo !== undefined) message.replyTo = replyTo;
  return message;
}

function subjectOf({ key, headers }: EventRecord): string {
  const subject = text(headers, 'ce_subject') ?? (key && isUtf8(key) ? key.toString() : '');
  if (subject === '') {
    throw new UndecodableError('the record has neither a UTF-8 key nor ce_subject: send the stream id as the key');
  }
  return subject;
}

function replyAddress(headers: RecordHeaders): ReplyAddress | undefined {
  const address = text(headers, 'ce_replyto');
  const subject = text(headers, 'ce_replysubject');
  return address === undefined || subject === undefined ? undefined : { address, subject };
}

function parseJson(value: Buffer | null): unknown {
  if (value === null) throw new UndecodableError('the record has no value: send the data as JSON');
  // Checked because toString() would replace broken bytes silently.
  if (!isUtf8(value)) throw new UndecodableError('the value is not UTF-8: send the data as JSON');
  try {
    return JSON.parse(value.toString());
  } catch (error) {
    throw new UndecodableError(`the value is not JSON (${(error as Error).message}): send the data as JSON`);
  }
}

function requiredText(headers: RecordHeaders, name: string): string {
  const value = text(headers, name);
  if (value === undefined) {
    throw new UndecodableError(`header ${name} is missing: send a CloudEvents 1.0 record in binary mode`);
  }
  return value;
}

function wholeNumber(headers: RecordHeaders, name: string): number | undefined {
  const value = text(headers, name);
  if (value === undefined) return undefined;
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 1) {
    throw new UndecodableError(`header ${name} is "${value}": send a whole number from 1`);
  }
  return number;
}

/** The first value of a header; an empty one counts as absent. */
function text(headers: RecordHeaders, name: string): string | undefined {
  const value = headers[name];
  const first = Array.isArray(value) ? value[0] : value;
  return first === undefined || first.length === 0 ? undefined : first.toString();
}

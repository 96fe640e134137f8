import { isUtf8 } from 'node:buffer';
import { InvalidMessageError, UndecodableError } from '../errors.js';
import { incomingCount, incomingInstant, incomingJson, incomingName, incomingTrace } from '../incoming-fields.js';
import type { Message, ReplyAddress } from '../message.js';
import { bounds, shortened, storableInstant } from '../storable.js';
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
  const id = required(headers, 'ce_id');
  // Assigned rather than spread: this runs for every record, and a spread costs as much as all the rest.
  const message: { -readonly [Field in keyof Message]: Message[Field] } = {
    id,
    type: required(headers, 'ce_type'),
    version: count(headers, 'ce_dataversion') ?? 1,
    source: name(headers, 'ce_source') ?? 'unknown',
    time: timeOf(record),
    subject: subjectOf(record),
    correlationId: name(headers, 'ce_correlationid') ?? id,
    data: dataOf(record),
  };
  const sequence = count(headers, 'ce_sequence');
  const causationId = name(headers, 'ce_causationid');
  const traceparent = text(headers, 'ce_traceparent');
  const trace = traceparent === undefined ? undefined : incomingTrace(traceparent);
  const replyTo = replyAddress(headers);
  if (sequence !== undefined) message.sequence = sequence;
  if (causationId !== undefined) message.causationId = causationId;
  if (trace !== undefined) message.traceparent = trace;
  if (replyTo !== undefined) message.replyTo = replyTo;
  return message;
}

function subjectOf({ key, headers }: EventRecord): string {
  const subject = name(headers, 'ce_subject', bounds.keyBytes);
  if (subject !== undefined) return subject;
  if (key && key.length > 0 && isUtf8(key)) return incomingName('the key', key.toString(), bounds.keyBytes);
  throw new UndecodableError('the record has neither a UTF-8 key nor ce_subject: send the stream id as the key');
}

/** Producers may give a record any timestamp: one that is no instant says nothing. */
function timeOf({ headers, timestamp }: EventRecord & { readonly timestamp?: number }): string {
  const time = text(headers, 'ce_time');
  if (time !== undefined) return incomingInstant('header ce_time', time, 'ISO 8601, years 0001 to 9999');
  return (timestamp === undefined ? undefined : storableInstant(timestamp)) ?? new Date().toISOString();
}

function replyAddress(headers: RecordHeaders): ReplyAddress | undefined {
  const address = name(headers, 'ce_replyto');
  const subject = name(headers, 'ce_replysubject', bounds.keyBytes);
  return address === undefined || subject === undefined ? undefined : { address, subject };
}

function dataOf({ value: content }: EventRecord): unknown {
  if (content === null) throw new UndecodableError('the record has no value: send the data as JSON');
  const { value, problem } = incomingJson('value', content);
  if (problem !== undefined) throw new UndecodableError(problem);
  return value;
}

function required(headers: RecordHeaders, field: string): string {
  const value = name(headers, field);
  if (value !== undefined) return value;
  throw new UndecodableError(`header ${field} is missing: send a CloudEvents 1.0 record in binary mode`);
}

function name(headers: RecordHeaders, field: string, mostBytes?: number): string | undefined {
  const value = text(headers, field);
  return value === undefined ? undefined : incomingName(`header ${field}`, value, mostBytes);
}

function count(headers: RecordHeaders, field: string): number | undefined {
  const value = text(headers, field);
  if (value === undefined) return undefined;
  if (/^\d+$/.test(value)) return incomingCount(`header ${field}`, Number(value));
  const wanted = `send a whole number from 1 to ${bounds.integer}`;
  throw new UndecodableError(`header ${field} is "${shortened(value, 100)}": ${wanted}`);
}

/** The first value of a header that has one; null and empty ones count as absent. */
function text(headers: RecordHeaders, field: string): string | undefined {
  const value = headers[field];
  for (const one of Array.isArray(value) ? value : [value]) {
    if (!one || one.length === 0) continue;
    if (typeof one === 'string' || isUtf8(one)) return one.toString();
    throw new UndecodableError(`header ${field} is not UTF-8; send text encoded as UTF-8`);
  }
  return undefined;
}

import { isUtf8 } from 'node:buffer';
import { inspect } from 'node:util';
import { InvalidMessageError, UndecodableError } from '../errors.js';
import type { Message } from '../message.js';
import type { Outcome } from '../outcome.js';
import { encodeJson } from '../transport/encode-json.js';
import { longestReason } from '../transport/dead-letter.js';
import { deadLetterHeaders } from '../transport/delivery.js';

/** The AMQP properties that this library reads or writes, named as `amqplib` names them. */
export interface AmqpProperties {
  readonly messageId?: string | undefined;
  readonly type?: string | undefined;
  readonly appId?: string | undefined;
  readonly correlationId?: string | undefined;
  readonly replyTo?: string | undefined;
  readonly contentType?: string | undefined;
  readonly contentEncoding?: string | undefined;
  readonly deliveryMode?: number | undefined;
  /** Seconds since 1970. */
  readonly timestamp?: number | undefined;
  readonly headers?: Readonly<Record<string, unknown>> | undefined;
}

/** A message as the broker holds it. */
export interface AmqpMessage {
  readonly properties: AmqpProperties;
  readonly content: Buffer;
}

const persistent = 2;

/** @throws InvalidMessageError when the data is not JSON (a cycle, a bigint) */
export function encodeAmqp(message: Message): AmqpMessage {
  const encoded: AmqpMessage = {
    content: encodeJson(message),
    properties: {
      messageId: message.id,
      type: message.type,
      appId: message.source,
      correlationId: message.correlationId,
      replyTo: message.replyTo?.address,
      contentType: 'application/json',
      contentEncoding: 'utf-8',
      deliveryMode: persistent,
      timestamp: Math.floor(Date.parse(message.time) / 1000),
      headers: {
        version: message.version,
        time: message.time,
        subject: message.subject,
        sequence: message.sequence,
        'causation-id': message.causationId,
        'reply-subject': message.replyTo?.subject,
        traceparent: message.traceparent,
        redrives: message.redrives,
        attempt: 1,
      },
    },
  };
  refuseUnwritable(message, encoded.properties);
  return encoded;
}

/** AMQP's short strings, in bytes. */
const longestText = 255;
/** Where amqplib encodes the header table: a larger one finds no room. Less what names and types of the headers take. */
const longestHeaders = 64 * 1024 - 1024;

/** @throws InvalidMessageError naming the address that is too long to be written */
export function refuseAddress(exchange: string, routingKey: string): void {
  refuseLong('exchange', exchange);
  refuseLong('routing key', routingKey);
}

function refuseUnwritable(message: Message, properties: AmqpProperties): void {
  refuseLong('id', message.id);
  refuseLong('type', message.type);
  refuseLong('source', message.source);
  refuseLong('correlationId', message.correlationId);
  refuseLong('replyTo.address', message.replyTo?.address);
  if (Number.isNaN(properties.timestamp)) {
    throw new InvalidMessageError(`time "${message.time}" of message ${message.id} is no instant: set ISO 8601`);
  }
  const { subject = '', causationId = '', traceparent = '', replyTo, time } = message;
  const headers = subject + causationId + traceparent + (replyTo?.subject ?? '') + time;
  if (headers.length <= longestHeaders / 3 || Buffer.byteLength(headers) <= longestHeaders) return;
  throw new InvalidMessageError(
    `subject, causationId, traceparent and replyTo.subject of message ${message.id} take ${Buffer.byteLength(headers)} bytes, together they may take ${longestHeaders}: shorten them`,
  );
}

function refuseLong(field: string, text: string | undefined): void {
  if (text === undefined || text.length <= longestText / 3) return;
  const bytes = Buffer.byteLength(text);
  if (bytes <= longestText) return;
  throw new InvalidMessageError(
    `${field} "${text.slice(0, 40)}…" takes ${bytes} bytes, AMQP carries up to ${longestText}: shorten it`,
  );
}

/**
 * Reads what any client may have written: `message_id`, `type` and a JSON body are all it needs.
 * @throws UndecodableError
 */
export function decodeAmqp({ properties, content }: AmqpMessage): { message: Message; attempt: number } {
  const headers = properties.headers ?? {};
  const id = required('message_id', properties.messageId);
  const message: { -readonly [Field in keyof Message]: Message[Field] } = {
    id,
    type: required('type', properties.type),
    version: count('header version', headers['version']) ?? 1,
    source: text('app_id', properties.appId) ?? 'unknown',
    time: timeOf(properties),
    correlationId: text('correlation_id', properties.correlationId) ?? id,
    data: jsonOf(content),
  };
  // Assigned one by one, not spread: this runs for every message, and spreads took most of its time.
  const subject = text('header subject', headers['subject']);
  if (subject !== undefined) message.subject = subject;
  const sequence = count('header sequence', headers['sequence']);
  if (sequence !== undefined) message.sequence = sequence;
  const causationId = text('header causation-id', headers['causation-id']);
  if (causationId !== undefined) message.causationId = causationId;
  const traceparent = text('header traceparent', headers['traceparent']);
  if (traceparent !== undefined) message.traceparent = traceparent;
  const redrives = count('header redrives', headers['redrives']);
  if (redrives !== undefined) message.redrives = redrives;
  const address = text('reply_to', properties.replyTo);
  const replySubject = text('header reply-subject', headers['reply-subject']) ?? message.correlationId;
  if (address !== undefined) message.replyTo = { address, subject: replySubject };
  return { message, attempt: count('header attempt', headers['attempt']) ?? 1 };
}

/** The same message for its next attempt. */
export function asAttempt(message: AmqpMessage, attempt: number): AmqpMessage {
  return republished(message, { attempt });
}

export type DeadLetterOutcome = Extract<Outcome, { kind: 'dead-letter' }>;

/** The same bytes and headers, with the reason added. */
export function asDeadLetter(
  message: AmqpMessage,
  outcome: DeadLetterOutcome,
  { queue, attempt }: { queue: string; attempt: number },
): AmqpMessage {
  return republished(message, {
    [deadLetterHeaders.reason]: outcome.reason.slice(0, longestReason),
    [deadLetterHeaders.errorType]: outcome.errorType.slice(0, longestReason),
    ...(outcome.stack === undefined ? {} : { [deadLetterHeaders.stack]: outcome.stack }),
    [deadLetterHeaders.origin]: queue,
    [deadLetterHeaders.consumer]: queue,
    [deadLetterHeaders.attempts]: String(attempt),
    [deadLetterHeaders.time]: new Date().toISOString(),
  });
}

/**
 * Written by the broker, or read by it when we publish: RabbitMQ 3 takes its own records of an earlier death for a loop
 * and drops the message, and `CC` would send copies elsewhere. `expiration` and `user_id` are left out for the same kind
 * of reason: a dead letter must not expire, and the broker refuses a foreign user's name.
 */
const brokerHeader = /^(x-death|x-(first|last)-death-.*|x-delivery-count|x-acquired-count|CC|BCC)$/;

function republished({ properties, content }: AmqpMessage, added: Record<string, unknown>): AmqpMessage {
  const { messageId, type, appId, correlationId, replyTo, contentType, contentEncoding, timestamp } = properties;
  const kept = Object.entries(properties.headers ?? {}).filter(([name]) => !brokerHeader.test(name));
  return {
    content,
    properties: {
      ...{ messageId, type, appId, correlationId, replyTo, contentType, contentEncoding, timestamp },
      deliveryMode: persistent,
      headers: { ...Object.fromEntries(kept), ...added },
    },
  };
}

function jsonOf(content: Buffer): unknown {
  if (!isUtf8(content)) throw new UndecodableError('the body is not UTF-8; send JSON encoded as UTF-8');
  try {
    return JSON.parse(content.toString('utf8')) as unknown;
  } catch (error) {
    throw new UndecodableError(`the body is not JSON (${(error as Error).message}); send a JSON value`);
  }
}

function timeOf({ headers, timestamp }: AmqpProperties): string {
  const time = text('header time', headers?.['time']);
  if (time !== undefined) return instant(`header time "${time}" is no instant; send ISO 8601`, time);
  const seconds = count('timestamp', timestamp);
  if (seconds === undefined) return new Date().toISOString();
  return instant(`timestamp ${seconds} is no instant; send seconds since 1970`, seconds * 1000);
}

const canonicalInstant = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/;

function instant(problem: string, value: string | number): string {
  const date = new Date(value);
  if (Number.isNaN(date.getTime())) throw new UndecodableError(problem);
  return typeof value === 'string' && canonicalInstant.test(value) ? value : date.toISOString();
}

function required(name: string, value: unknown): string {
  const found = text(name, value);
  if (found === undefined || found === '') throw new UndecodableError(`${name} is missing; every message needs it`);
  return found;
}

function text(name: string, value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string') throw new UndecodableError(`${name} must be a string, it is a ${typeof value}`);
  return value;
}

function count(name: string, value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 1) return value;
  throw new UndecodableError(`${name} must be an integer of 1 or more, it is ${inspect(value)}`);
}

import { headerJson } from '../dead-letters/header-json.js';
import { InvalidMessageError, UndecodableError } from '../errors.js';
import {
  incomingCount,
  incomingInstant,
  incomingJson,
  incomingName,
  incomingTrace,
  type IncomingJson,
} from '../incoming-fields.js';
import { isReply, mendedReply, replyProblem } from '../mended-reply.js';
import type { Message } from '../message.js';
import type { Outcome } from '../outcome.js';
import { bounds, shortened } from '../storable.js';
import { encodeJson } from '../transport/encode-json.js';
import { longestReason } from '../transport/dead-letter.js';
import { unreadableHeaders } from './readable-frames.js';
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
  if (unreadableHeaders in headers) {
    throw new UndecodableError('its headers cannot be read; send texts and integers, nested a few times at most');
  }
  const id = required('message_id', properties.messageId);
  const type = required('type', properties.type);
  const { value: data, problem } = isReply(type) ? replyBody(content) : incomingJson('body', content);
  const message: { -readonly [Field in keyof Message]: Message[Field] } = {
    id,
    type,
    version: count('header version', headers['version']) ?? 1,
    source: name('app_id', properties.appId) ?? 'unknown',
    time: timeOf(properties),
    correlationId: name('correlation_id', properties.correlationId) ?? id,
    data,
  };
  // Assigned one by one, not spread: this runs for every message, and spreads took most of its time.
  const subject = name('header subject', headers['subject'], bounds.keyBytes);
  if (subject !== undefined) message.subject = subject;
  const sequence = count('header sequence', headers['sequence']);
  if (sequence !== undefined) message.sequence = sequence;
  const causationId = name('header causation-id', headers['causation-id']);
  if (causationId !== undefined) message.causationId = causationId;
  const traceparent = text('header traceparent', headers['traceparent']);
  const trace = traceparent === undefined ? undefined : incomingTrace(traceparent);
  if (trace !== undefined) message.traceparent = trace;
  const redrives = count('header redrives', headers['redrives'], bounds.attempts);
  if (redrives !== undefined) message.redrives = redrives;
  const address = name('reply_to', properties.replyTo);
  const replySubject = name('header reply-subject', headers['reply-subject'], bounds.keyBytes) ?? message.correlationId;
  if (address !== undefined) message.replyTo = { address, subject: replySubject };
  const attempt = count('header attempt', headers['attempt'], bounds.attempts) ?? 1;
  const useless = problem ?? (isReply(type) ? replyProblem(message) : undefined);
  return { message: useless === undefined ? message : mendedReply(message, useless), attempt };
}

/** What cannot be read is told to whoever waits for it. */
function replyBody(content: Buffer): IncomingJson {
  try {
    return incomingJson('body', content, bounds.replyDepth);
  } catch (error) {
    if (error instanceof UndecodableError) return { value: undefined, problem: error.message };
    throw error;
  }
}

/** The same message for its next attempt. */
export function asAttempt(message: AmqpMessage, attempt: number): AmqpMessage {
  return republished(message, { attempt });
}

export type DeadLetterOutcome = Extract<Outcome, { kind: 'dead-letter' }>;

interface Failed {
  readonly queue: string;
  readonly attempt: number;
}

/** The same bytes and headers, with the reason added. */
export const asDeadLetter = (message: AmqpMessage, outcome: DeadLetterOutcome, failed: Failed): AmqpMessage =>
  republished(message, reasonHeaders(outcome, failed));

/** The same for a message that cannot be written with its headers: all of it stands in the body, {@link unwrapped} reads it. */
export function asWrappedDeadLetter(message: AmqpMessage, outcome: DeadLetterOutcome, failed: Failed): AmqpMessage {
  const { headers, ...properties } = message.properties;
  const whole = { properties, headers: headerJson(headers), content: message.content.toString('base64') };
  return {
    content: Buffer.from(JSON.stringify(whole)),
    properties: {
      ...{ contentType: 'application/json', contentEncoding: 'utf-8', deliveryMode: persistent },
      headers: { ...reasonHeaders(outcome, failed), [wrappedHeader]: true },
    },
  };
}

const wrappedHeader = 'x-dead-letter-wrapped';

/** The message that {@link asWrappedDeadLetter} has put into the body; any other is given back as it is. */
export function unwrapped(letter: AmqpMessage): AmqpMessage {
  const { [wrappedHeader]: isWrapped, ...reason } = letter.properties.headers ?? {};
  if (isWrapped !== true) return letter;
  const { properties, headers, content } = JSON.parse(letter.content.toString()) as {
    readonly properties: AmqpProperties;
    readonly headers: Record<string, unknown> | undefined;
    readonly content: string;
  };
  return { content: Buffer.from(content, 'base64'), properties: { ...properties, headers: { ...headers, ...reason } } };
}

function reasonHeaders(outcome: DeadLetterOutcome, { queue, attempt }: Failed): Record<string, unknown> {
  return {
    [deadLetterHeaders.reason]: shortened(outcome.reason, longestReason),
    [deadLetterHeaders.errorType]: shortened(outcome.errorType, longestReason),
    ...(outcome.stack === undefined ? {} : { [deadLetterHeaders.stack]: outcome.stack }),
    [deadLetterHeaders.origin]: queue,
    [deadLetterHeaders.consumer]: queue,
    [deadLetterHeaders.attempts]: String(attempt),
    [deadLetterHeaders.time]: new Date().toISOString(),
  };
}

/**
 * Written by the broker, or read by it when we publish: RabbitMQ 3 takes its own records of an earlier death for a loop
 * and drops the message, and `CC` would send copies elsewhere. `expiration` and `user_id` are left out for the same kind
 * of reason: a dead letter must not expire, and the broker refuses a foreign user's name.
 */
const brokerHeader = /^(x-death|x-(first|last)-death-.*|x-delivery-count|x-acquired-count|CC|BCC)$/;

/** @throws RangeError when the headers have no room in a frame: the broker would close the connection */
function republished({ properties, content }: AmqpMessage, added: Record<string, unknown>): AmqpMessage {
  const { messageId, type, appId, correlationId, replyTo, contentType, contentEncoding, timestamp } = properties;
  const kept = Object.entries(properties.headers ?? {}).filter(([name]) => !brokerHeader.test(name));
  const length = JSON.stringify(headerJson(Object.fromEntries(kept))).length;
  if (length > longestHeaders / 3) throw new RangeError(`headers of ${length} characters cannot be sent again`);
  return {
    content,
    properties: {
      ...{ messageId, type, appId, correlationId, replyTo, contentType, contentEncoding, timestamp },
      deliveryMode: persistent,
      headers: { ...Object.fromEntries(kept), ...added },
    },
  };
}

function timeOf({ headers, timestamp }: AmqpProperties): string {
  const time = text('header time', headers?.['time']);
  if (time !== undefined) return incomingInstant('header time', time, 'ISO 8601, years 0001 to 9999');
  if (timestamp === undefined) return new Date().toISOString();
  return incomingInstant('timestamp', Number(timestamp) * 1000, 'seconds since 1970');
}

function required(field: string, value: unknown): string {
  const given = name(field, value);
  if (given === undefined) throw new UndecodableError(`${field} is missing; every message needs it`);
  return given;
}

function name(field: string, value: unknown, mostBytes?: number): string | undefined {
  const given = text(field, value);
  return given === undefined ? undefined : incomingName(field, given, mostBytes);
}

/** An empty one counts as absent. */
function text(field: string, value: unknown): string | undefined {
  if (value === undefined || value === null || value === '') return undefined;
  if (typeof value !== 'string') throw new UndecodableError(`${field} must be a string, it is a ${typeof value}`);
  return value;
}

const count = (field: string, value: unknown, most?: number): number | undefined =>
  value === undefined || value === null ? undefined : incomingCount(field, value, most);

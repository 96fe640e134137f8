import type { Message } from '../message.js';
import { deadLetterHeaders } from '../transport/delivery.js';
import type { DeadLetterDelivery } from '../transport/dead-letter.js';
import { decodeAmqp, unwrapped, type AmqpMessage } from './amqp-envelope.js';

/** Of a dead letter that the broker made itself: it refused or dropped the message, and no handler saw it fail. */
export const givenUpByBroker = 'GivenUpByBroker';

/** Reads a message of the dead-letter queue of `queue`, whoever put it there. */
export function readDeadLetter(letter: AmqpMessage, queue: string): DeadLetterDelivery {
  const raw = tryUnwrap(letter);
  const { headers = {}, ...properties } = raw.properties;
  const written = Object.values<string>(deadLetterHeaders);
  const others = Object.entries(headers).filter(([name]) => !written.includes(name));
  const decoded = tryDecode(raw);
  const kept = {
    content: raw.content,
    headers: { ...definedOf(properties), headers: Object.fromEntries(others) },
  };
  return {
    ...(decoded ? { message: decoded.message } : {}),
    ...(text(headers[deadLetterHeaders.reason]) === undefined
      ? brokersReason(headers, queue, decoded?.attempt ?? 0)
      : ourReason(headers, queue)),
    raw: kept,
  };
}

type Reason = Omit<DeadLetterDelivery, 'message' | 'raw'>;

const ourReason = (headers: Readonly<Record<string, unknown>>, queue: string): Reason => ({
  reason: text(headers[deadLetterHeaders.reason]) ?? '',
  errorType: text(headers[deadLetterHeaders.errorType]) ?? 'Error',
  stack: text(headers[deadLetterHeaders.stack]),
  origin: text(headers[deadLetterHeaders.origin]) ?? queue,
  attempts: Number(headers[deadLetterHeaders.attempts]) || 0,
  time: instantOf(headers[deadLetterHeaders.time]),
});

interface Death {
  readonly queue?: unknown;
  readonly reason?: unknown;
  /** Seconds since 1970. */
  readonly time?: { readonly value?: unknown };
}

/** The newest death comes first in `x-death`. */
function brokersReason(headers: Readonly<Record<string, unknown>>, queue: string, attempts: number): Reason {
  const deaths = headers['x-death'];
  const [death] = (Array.isArray(deaths) ? deaths : []) as Death[];
  const from = text(death?.queue) ?? queue;
  const seconds = Number(death?.time?.value);
  return {
    reason: death
      ? `the broker took it from ${from}: ${text(death.reason) ?? 'unknown reason'}`
      : 'somebody put it here without a reason',
    errorType: givenUpByBroker,
    origin: from,
    attempts: Math.max(0, attempts - 1),
    time: instantOf(seconds > 0 ? seconds * 1000 : undefined),
  };
}

/** Anybody may put anything here. */
function tryUnwrap(letter: AmqpMessage): AmqpMessage {
  try {
    return unwrapped(letter);
  } catch {
    return letter;
  }
}

function tryDecode(raw: AmqpMessage): { message: Message; attempt: number } | undefined {
  try {
    return decodeAmqp(raw);
  } catch {
    return undefined;
  }
}

function instantOf(value: unknown): string {
  const date = new Date(typeof value === 'string' || typeof value === 'number' ? value : Date.now());
  return (Number.isNaN(date.getTime()) ? new Date() : date).toISOString();
}

const text = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined);

const definedOf = (fields: object): object =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));

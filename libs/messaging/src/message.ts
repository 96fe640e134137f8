import { randomFillSync } from 'node:crypto';
import { v7 as uuidv7 } from 'uuid';

/**
 * The one envelope that travels on both transports. On Kafka it is CloudEvents 1.0 in binary mode, on RabbitMQ the same
 * names stand in AMQP properties and headers, so a plain client in any language can read and write it.
 */
export interface Message<Data = unknown> {
  /** UUID, fixed when the message is written; a re-send keeps it, so that a receiver recognises the duplicate. */
  readonly id: string;
  /** Dotted name of the definition: `user.register`, `user.registered`. */
  readonly type: string;
  /** Version of the definition that `data` conforms to; 1 or more. */
  readonly version: number;
  /** Service that wrote the message. */
  readonly source: string;
  /** ISO 8601 instant with milliseconds, UTC. */
  readonly time: string;
  /** Stream (actor) the message belongs to or is meant for; the ordering key wherever there is one. */
  readonly subject?: string;
  /** Position of an event in its stream, from 1 without gaps. */
  readonly sequence?: number;
  /** Shared by all messages that one request set off. */
  readonly correlationId: string;
  /** Id of the message that directly caused this one. */
  readonly causationId?: string;
  /** Where the receiver of a command sends its reply. */
  readonly replyTo?: ReplyAddress;
  /** W3C trace context. */
  readonly traceparent?: string;
  /** Of a command that was a dead letter: how often an operator has sent it again. */
  readonly redrives?: number;
  /** JSON value: what the definition's schema encodes to. */
  readonly data: Data;
}

export interface ReplyAddress {
  /** Routing key on the `commands` exchange. */
  readonly address: string;
  /** Becomes the reply's subject: the actor that waits for it. */
  readonly subject: string;
}

export type MessageFields<Data = unknown> = Pick<Message<Data>, 'type' | 'version' | 'source' | 'data'> & {
  readonly [Field in keyof Omit<Message, 'type' | 'version' | 'source' | 'data' | 'redrives'>]?:
    Message[Field] | undefined;
};

/** Time-ordered, so that index inserts of outbox and inbox stay at the right edge. */
export const newMessageId = (): string => uuidv7({ random: randomBytes16() });

// Of many ids at a time: the call to the system for each one took five times as long as the rest of the id.
const pool = new Uint8Array(16 * 256);
let used = pool.length;

function randomBytes16(): Uint8Array {
  if (used === pool.length) {
    randomFillSync(pool);
    used = 0;
  }
  return pool.subarray(used, (used += 16));
}

/** Fills in id, time and correlation; a message that nothing caused starts a correlation of its own. */
export function createMessage<Data>(fields: MessageFields<Data>): Message<Data> {
  const id = fields.id ?? newMessageId();
  const message: { -readonly [Field in keyof Message<Data>]: Message<Data>[Field] } = {
    id,
    type: fields.type,
    version: fields.version,
    source: fields.source,
    time: fields.time ?? new Date().toISOString(),
    correlationId: fields.correlationId ?? id,
    data: fields.data,
  };
  // Assigned one by one, not spread: this runs for every message, and spreads took most of its time.
  if (fields.subject !== undefined) message.subject = fields.subject;
  if (fields.sequence !== undefined) message.sequence = fields.sequence;
  if (fields.causationId !== undefined) message.causationId = fields.causationId;
  if (fields.replyTo !== undefined) message.replyTo = fields.replyTo;
  if (fields.traceparent !== undefined) message.traceparent = fields.traceparent;
  return message;
}

/** The envelope fields that a message inherits from the one it answers or follows. */
export function causedBy(cause: Message): Pick<Message, 'correlationId' | 'causationId' | 'traceparent'> {
  return {
    correlationId: cause.correlationId,
    causationId: cause.id,
    ...(cause.traceparent === undefined ? {} : { traceparent: cause.traceparent }),
  };
}

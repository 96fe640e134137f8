import { UndecodableError } from '../errors.js';
import { createMessage } from '../message.js';
import { deadLetter } from '../outcome.js';
import { deadLetterHeaders } from '../transport/delivery.js';
import {
  asAttempt,
  asDeadLetter,
  decodeAmqp,
  encodeAmqp,
  type AmqpProperties,
  type DeadLetterOutcome,
} from './amqp-envelope.js';

const minimal = createMessage({ type: 'user.register', version: 1, source: 'spec', data: { name: 'Ada' } });
const full = createMessage({
  ...minimal,
  version: 3,
  subject: 'user-1',
  sequence: 12,
  correlationId: 'conversation',
  causationId: 'cause',
  replyTo: { address: 'orchestrator', subject: 'workflow-1' },
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
});
const json = Buffer.from('{}');

describe('AMQP envelope', () => {
  it.each([minimal, full])('reads what it wrote: $version', (message) => {
    expect(decodeAmqp(encodeAmqp(message))).toEqual({ message, attempt: 1 });
  });

  it('reads the message of a plain client and fills in the rest', () => {
    const before = Date.now();
    const { message, attempt } = decodeAmqp({ properties: { messageId: 'id', type: 'any' }, content: json });
    expect(attempt).toBe(1);
    expect(message).toEqual({
      id: 'id',
      type: 'any',
      version: 1,
      source: 'unknown',
      time: expect.any(String) as string,
      correlationId: 'id',
      data: {},
    });
    expect(Date.parse(message.time)).toBeGreaterThanOrEqual(before);
  });

  it('takes the time from the header, else from the timestamp', () => {
    const properties = { messageId: 'id', type: 'any', timestamp: 1 };
    const withHeader = { ...properties, headers: { time: '2025-01-02T03:04:05.678Z' } };
    expect(decodeAmqp({ properties: withHeader, content: json }).message.time).toBe('2025-01-02T03:04:05.678Z');
    expect(decodeAmqp({ properties, content: json }).message.time).toBe('1970-01-01T00:00:01.000Z');
  });

  it('a plain client that wants a reply gets its own correlation id back as the subject', () => {
    const properties = { messageId: 'id', type: 'any', replyTo: 'me', correlationId: 'mine' };
    expect(decodeAmqp({ properties, content: json }).message.replyTo).toEqual({ address: 'me', subject: 'mine' });
  });

  it.each<[string, unknown, Buffer]>([
    ['message_id is missing', { type: 'any' }, json],
    ['message_id is missing', { messageId: '', type: 'any' }, json],
    ['type is missing', { messageId: 'id' }, json],
    ['the body is not JSON', { messageId: 'id', type: 'any' }, Buffer.from('nonsense')],
    ['the body is not JSON', { messageId: 'id', type: 'any' }, Buffer.alloc(0)],
    ['the body is not UTF-8', { messageId: 'id', type: 'any' }, Buffer.from([0xff])],
    [
      'header version must be an integer of 1 or more',
      { messageId: 'id', type: 'any', headers: { version: '1' } },
      json,
    ],
    ['header attempt must be an integer of 1 or more', { messageId: 'id', type: 'any', headers: { attempt: 0 } }, json],
    [
      'header sequence must be an integer of 1 or more',
      { messageId: 'id', type: 'any', headers: { sequence: 1n } },
      json,
    ],
    ['header subject must be a string', { messageId: 'id', type: 'any', headers: { subject: 5 } }, json],
    ['header time "soon" is no instant', { messageId: 'id', type: 'any', headers: { time: 'soon' } }, json],
    ['is no instant; send seconds', { messageId: 'id', type: 'any', timestamp: 1e15 }, json],
  ])('refuses what it cannot read: %s %j', (problem, properties, content) => {
    const decoding = (): unknown => decodeAmqp({ properties: properties as AmqpProperties, content });
    expect(decoding).toThrow(UndecodableError);
    expect(decoding).toThrow(problem);
  });
});

describe('a message that is published again', () => {
  const received = {
    content: Buffer.from([1, 2, 3]),
    properties: {
      messageId: 'id',
      type: 'any',
      correlationId: 'mine',
      expiration: '1000',
      userId: 'somebody',
      headers: {
        subject: 'user-1',
        'their-own': true,
        attempt: 2,
        'x-death': [{ queue: 'q' }],
        'x-first-death-queue': 'q',
        'x-last-death-reason': 'expired',
        'x-delivery-count': 3,
        CC: ['elsewhere'],
      },
    },
  };

  it('keeps its bytes and headers, and counts the attempt', () => {
    expect(asAttempt(received, 3)).toEqual({
      content: received.content,
      properties: {
        messageId: 'id',
        type: 'any',
        correlationId: 'mine',
        deliveryMode: 2,
        headers: { subject: 'user-1', 'their-own': true, attempt: 3 },
      },
    });
  });

  it('as a dead letter carries the reason', () => {
    const outcome = deadLetter('x'.repeat(100_000), 'Odd') as DeadLetterOutcome;
    const letter = asDeadLetter(received, outcome, { queue: 'q', attempt: 2 });
    expect(letter.content).toBe(received.content);
    expect(letter.properties).not.toHaveProperty('expiration');
    expect(letter.properties.headers).toEqual({
      subject: 'user-1',
      'their-own': true,
      attempt: 2,
      [deadLetterHeaders.reason]: 'x'.repeat(4000),
      [deadLetterHeaders.errorType]: 'Odd',
      [deadLetterHeaders.origin]: 'q',
      [deadLetterHeaders.consumer]: 'q',
      [deadLetterHeaders.attempts]: '2',
      [deadLetterHeaders.time]: expect.any(String) as string,
    });
  });
});

import { UndecodableError } from '../errors.js';
import { createMessage } from '../message.js';
import { deadLetter } from '../outcome.js';
import { replyFor } from '../reply.js';
import { deadLetterHeaders } from '../transport/delivery.js';
import {
  asAttempt,
  asDeadLetter,
  asWrappedDeadLetter,
  decodeAmqp,
  encodeAmqp,
  type AmqpProperties,
  type DeadLetterOutcome,
} from './amqp-envelope.js';
import { readDeadLetter } from './dead-letter-message.js';

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
    ['a of the body is beyond', { messageId: 'id', type: 'any' }, Buffer.from('{"a":1e400}')],
    ['the body is beyond', { messageId: 'id', type: 'any' }, Buffer.from('-9E+999')],
    ['0.x of the body is beyond', { messageId: 'id', type: 'any' }, Buffer.from(`[{"x": ${'9'.repeat(400)}}]`)],
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
    [
      'header subject takes 1001 bytes',
      { messageId: 'id', type: 'any', headers: { subject: 'x'.repeat(1_001) } },
      json,
    ],
    ['header subject must be a string', { messageId: 'id', type: 'any', headers: { subject: ['a'] } }, json],
    ['header subject must be a string', { messageId: 'id', type: 'any', headers: { subject: json } }, json],
    ['message_id holds a control character', { messageId: 'a\0', type: 'any' }, json],
    ['message_id holds a control character', { messageId: 'a\u{FFFD}', type: 'any' }, json],
    ['header version must', { messageId: 'id', type: 'any', headers: { version: 2 ** 31 } }, json],
    ['header sequence must', { messageId: 'id', type: 'any', headers: { sequence: -3 } }, json],
    ['header attempt must', { messageId: 'id', type: 'any', headers: { attempt: 2 ** 31 - 1 } }, json],
    ['timestamp NaN is no instant', { messageId: 'id', type: 'any', timestamp: NaN }, json],
    ['a of the body holds', { messageId: 'id', type: 'any' }, Buffer.from(String.raw`{"a":"\u0000"}`)],
    ['nested too deep', { messageId: 'id', type: 'any' }, Buffer.from('['.repeat(1e5) + ']'.repeat(1e5))],
    ['is no instant; send seconds', { messageId: 'id', type: 'any', timestamp: 1e15 }, json],
  ])('refuses what it cannot read: %s %j', (problem, properties, content) => {
    const decoding = (): unknown => decodeAmqp({ properties: properties as AmqpProperties, content });
    expect(decoding).toThrow(UndecodableError);
    expect(decoding).toThrow(problem);
  });
});

describe('a reply that is of no use', () => {
  const nested = '['.repeat(20_000) + ']'.repeat(20_000);
  const reply = (type: string, content: string | Buffer, headers: Record<string, unknown> = {}) =>
    decodeAmqp({ properties: { messageId: 'id', type, headers }, content: Buffer.from(content) }).message;

  it.each([
    ['U+0000', String.raw`{"requestId":"r","result":{"a":"\u0000"}}`, 'result.a of the body holds'],
    ['20 000 levels', `{"requestId":"r","result":${nested}}`, 'nested too deep'],
    [
      'bytes that are no UTF-8',
      Buffer.from([...Buffer.from('{"requestId":"r","result":"'), 0xff, 0x22, 0x7d]),
      'not UTF-8',
    ],
  ])('fails its request because of %s', (_, content, problem) => {
    const message = reply('command.succeeded', content);
    expect(message).toMatchObject({ type: 'command.failed', data: { requestId: 'r' } });
    expect((message.data as { reason: string }).reason).toContain(problem);
  });

  it.each([
    ['command.succeeded', { requestId: 'r' }, 'result'],
    ['command.failed', { requestId: 'r' }, 'reason'],
    ['command.failed', { requestId: 'r', reason: { text: 'no' } }, 'reason'],
    ['command.failed', { requestId: 'r', reason: 'no', revoked: 'yes' }, 'revoked'],
    ['command.failed', { requestId: 'r', reason: 'no', hopeless: 'quite' }, 'hopeless'],
    ['command.failed', { requestId: 'r', reason: 'x\0', hopeless: 'quite' }, 'reason'],
  ])('fails its request because it is none of %s: %j', (type, data, field) => {
    const message = reply(type, JSON.stringify(data));
    expect(message).toMatchObject({ type: 'command.failed', data: { requestId: 'r' } });
    expect((message.data as { reason: string }).reason).toContain(field);
  });

  it.each([
    ['does not name its request', '{"result":1}'],
    ['names it by a number', '{"requestId":7,"result":1}'],
    ['is no object', '"done"'],
    ['is null', 'null'],
    ['is no JSON', 'done'],
    ['is empty', ''],
    ['is no UTF-8', Buffer.from([0xff])],
  ])('fails the request of its causation-id when its body %s', (_, content) => {
    const headers = { 'causation-id': 'r' };
    const message = reply('command.succeeded', content, headers);
    expect(message).toMatchObject({ type: 'command.failed', data: { requestId: 'r' } });
    expect(() => reply('command.succeeded', content)).toThrow(UndecodableError);
  });

  it('is left to a later release when it is of another version', () => {
    const message = reply('command.succeeded', '{"request":"r"}', { version: 2 });
    expect(message).toMatchObject({ type: 'command.succeeded', version: 2 });
  });

  it('is told with its reason, as far as that can be stored', () => {
    const message = reply('command.failed', String.raw`{"requestId":"r","reason":"cut \ud83d","revoked":true}`);
    expect(message.data).toEqual({ requestId: 'r', reason: 'cut \u{FFFD}', revoked: true });
  });

  it('is undecodable where it does not say to what', () => {
    expect(() => reply('command.succeeded', String.raw`{"requestId":"\u0000","result":1}`)).toThrow(UndecodableError);
  });

  it('is not made by our own services: a result is mended, or fails its request', () => {
    const request = createMessage({ ...minimal, replyTo: { address: 'me', subject: 'w' } });
    expect(replyFor(request, { result: { a: 'x\0' } }, 'spec')?.data).toMatchObject({ result: { a: 'x\u{FFFD}' } });
    expect(replyFor(request, { failure: 'cut \ud83d' }, 'spec')?.data).toMatchObject({ reason: 'cut \u{FFFD}' });
    const deep = replyFor(request, { result: JSON.parse(nested) as unknown }, 'spec');
    expect(deep).toMatchObject({ type: 'command.failed', data: { requestId: request.id } });
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

  it('is refused when its headers find no room', () => {
    const large = { ...received, properties: { ...received.properties, headers: { theirs: 'x'.repeat(70_000) } } };
    expect(() => asAttempt(large, 2)).toThrow(RangeError);
  });

  it('as a dead letter that cannot be written with its headers comes back whole', () => {
    const headers = { theirs: 'x'.repeat(70_000), '!': 'odd', bytes: Buffer.from([0xff]), n: 5 };
    const large = { ...received, properties: { messageId: 'id', type: 'any', headers } };
    const outcome = deadLetter('why', 'Odd') as DeadLetterOutcome;
    const wrapped = asWrappedDeadLetter(large, outcome, { queue: 'q', attempt: 2 });
    const { raw, ...reason } = readDeadLetter(wrapped, 'q');
    expect(reason).toMatchObject({ reason: 'why', errorType: 'Odd', origin: 'q', attempts: 2 });
    expect(raw.content).toEqual(received.content);
    expect(raw.headers).toEqual({ messageId: 'id', type: 'any', headers: { ...headers, bytes: 'base64:/w==' } });
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

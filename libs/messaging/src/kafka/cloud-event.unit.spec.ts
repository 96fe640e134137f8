import { InvalidMessageError } from '../errors.js';
import { createMessage } from '../message.js';
import { UndecodableError } from '../errors.js';
import { undecodedAs } from '../transport/dead-letter.js';
import { decodeCloudEvent, encodeCloudEvent } from './cloud-event.js';

const message = createMessage({
  type: 'user.registered',
  version: 2,
  source: 'user-service',
  subject: 'user-1',
  sequence: 7,
  causationId: 'cause',
  traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
  replyTo: { address: 'orchestrator.reply', subject: 'workflow-1' },
  data: { name: 'Zoë', tags: ['a', null] },
});
const plain = {
  key: Buffer.from('user-1'),
  value: Buffer.from('{"a":1}'),
  headers: { ce_id: Buffer.from('1'), ce_type: Buffer.from('t') },
};

it('writes CloudEvents 1.0 in binary mode', () => {
  const { key, value, headers } = encodeCloudEvent(message);
  expect(key.toString()).toBe('user-1');
  expect(value.toString()).toBe('{"name":"Zoë","tags":["a",null]}');
  expect(headers).toEqual({
    ce_specversion: '1.0',
    ce_id: message.id,
    ce_type: 'user.registered',
    ce_source: 'user-service',
    ce_time: message.time,
    ce_subject: 'user-1',
    ce_dataversion: '2',
    ce_sequence: '7',
    ce_correlationid: message.correlationId,
    ce_causationid: 'cause',
    ce_traceparent: message.traceparent,
    ce_replyto: 'orchestrator.reply',
    ce_replysubject: 'workflow-1',
    'content-type': 'application/json',
  });
});

it('reads back exactly what it wrote, with and without the optional fields', () => {
  expect(decodeCloudEvent(encodeCloudEvent(message))).toEqual(message);
  const bare = createMessage({ type: 't', version: 1, source: 's', subject: 'x', data: null });
  expect(decodeCloudEvent(encodeCloudEvent(bare))).toEqual(bare);
});

it('names its attributes as CloudEvents allows: lower-case letters and digits', () => {
  const names = Object.keys(encodeCloudEvent(message).headers).filter((name) => name !== 'content-type');
  for (const name of names) expect(name).toMatch(/^ce_[a-z0-9]+$/);
});

it('refuses a message without a subject', () => {
  const { subject: _, ...rest } = message;
  expect(() => encodeCloudEvent(rest)).toThrow(InvalidMessageError);
  expect(() => encodeCloudEvent({ ...message, subject: '' })).toThrow('has no subject');
});

it('fills in what a plain client leaves out', () => {
  expect(decodeCloudEvent({ ...plain, timestamp: Date.UTC(2026, 0, 2) })).toEqual({
    id: '1',
    type: 't',
    version: 1,
    source: 'unknown',
    time: '2026-01-02T00:00:00.000Z',
    subject: 'user-1',
    correlationId: '1',
    data: { a: 1 },
  });
});

it('takes the subject from ce_subject when there is no key', () => {
  const headers = { ...plain.headers, ce_subject: 'from-header' };
  expect(decodeCloudEvent({ ...plain, key: null, headers }).subject).toBe('from-header');
});

it('takes null and empty headers for absent, the first value of repeated ones, and goes on without a trace that is none', () => {
  const headers = {
    ...plain.headers,
    ce_causationid: null,
    ce_sequence: [null, Buffer.alloc(0), Buffer.from('3'), Buffer.from('4')],
    ce_subject: '',
    ce_traceparent: 'no trace',
  };
  const decoded = decodeCloudEvent({ ...plain, headers: headers as never });
  expect(decoded).toMatchObject({ subject: 'user-1', sequence: 3 });
  expect(Object.keys(decoded)).not.toEqual(expect.arrayContaining(['causationId']));
  expect(decoded).not.toHaveProperty('traceparent');
});

it.each([NaN, -1e18, 9e15])('takes the time of today where the log says %d', (timestamp) => {
  expect(Date.parse(decodeCloudEvent({ ...plain, timestamp }).time)).toBeGreaterThan(Date.UTC(2020, 0));
});

it('does not call a defect of its own undecodable', () => {
  const decoding = (): unknown => decodeCloudEvent({ ...plain, headers: undefined as never });
  expect(decoding).toThrow(TypeError);
  expect(undecodedAs(caught(decoding))).toMatchObject({
    ...{ kind: 'dead-letter', errorType: 'TypeError' },
    stack: expect.stringContaining('cloud-event') as string,
  });
});

function caught(work: () => unknown): unknown {
  try {
    return work();
  } catch (error) {
    return error;
  }
}

const nested = Buffer.from('['.repeat(100_000) + ']'.repeat(100_000));
const withHeader = (name: string, value: string | Buffer) => ({
  ...plain,
  headers: { ...plain.headers, [name]: Buffer.from(value) },
});
it.each([
  ['no id', { ...plain, headers: { ce_type: 't' } }, 'ce_id is missing'],
  ['no type', { ...plain, headers: { ce_id: '1' } }, 'ce_type is missing'],
  ['no key', { ...plain, key: null }, 'neither a UTF-8 key nor ce_subject'],
  ['an empty key', { ...plain, key: Buffer.alloc(0) }, 'neither a UTF-8 key nor ce_subject'],
  ['no value', { ...plain, value: null }, 'no value'],
  ['a value that is not JSON', { ...plain, value: Buffer.from('{oops') }, 'not JSON'],
  ['a value that is not UTF-8', { ...plain, value: Buffer.from([0x22, 0xff, 0x22]) }, 'not UTF-8'],
  ['a bad version', { ...plain, headers: { ...plain.headers, ce_dataversion: '1.5' } }, 'ce_dataversion is "1.5"'],
  ['a subject of 7 205 characters', withHeader('ce_subject', 'x'.repeat(7_205)), 'ce_subject takes 7205 bytes'],
  ['a long key', { ...plain, key: Buffer.alloc(1_001, 'x') }, 'the key takes 1001 bytes, more than 1000'],
  ['U+0000 in its subject', withHeader('ce_subject', 'a\0'), 'ce_subject holds a control character'],
  ['a long type', withHeader('ce_type', 't'.repeat(256)), 'ce_type takes 256 bytes'],
  ['a long reply address', withHeader('ce_replyto', 'r'.repeat(256)), 'ce_replyto takes 256 bytes'],
  ['an id with a line break', withHeader('ce_id', 'a\nb'), 'ce_id holds a control character'],
  ['a header that is not UTF-8', withHeader('ce_source', Buffer.from([0xff])), 'ce_source is not UTF-8'],
  ['a version that no column holds', withHeader('ce_dataversion', String(2 ** 53)), 'at most 2147483647'],
  ['a sequence that no column holds', withHeader('ce_sequence', '2147483648'), 'at most 2147483647'],
  ['a negative sequence', withHeader('ce_sequence', '-1'), 'ce_sequence is "-1"'],
  ['a time out of range', withHeader('ce_time', '+275760-09-13T00:00:00Z'), 'years 0001 to 9999'],
  ['JSON of 100 000 levels', { ...plain, value: nested }, 'nested too deep'],
  ['U+0000 in its data', { ...plain, value: Buffer.from(String.raw`{"a":"\u0000"}`) }, 'a of the value holds'],
  ['half a surrogate pair', { ...plain, value: Buffer.from(String.raw`{"a":"\ud800"}`) }, 'a of the value holds half'],
  ['a bad sequence', { ...plain, headers: { ...plain.headers, ce_sequence: 'x' } }, 'ce_sequence is "x"'],
])('says why a record with %s is undecodable', (_, record, reason) => {
  expect(() => decodeCloudEvent(record)).toThrow(UndecodableError);
  expect(() => decodeCloudEvent(record)).toThrow(reason);
});

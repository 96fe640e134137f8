import { InvalidMessageError } from '../errors.js';
import { createMessage } from '../message.js';
import { UndecodableError } from '../errors.js';
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

it.each([
  ['no id', { ...plain, headers: { ce_type: 't' } }, 'ce_id is missing'],
  ['no type', { ...plain, headers: { ce_id: '1' } }, 'ce_type is missing'],
  ['no key', { ...plain, key: null }, 'neither a UTF-8 key nor ce_subject'],
  ['an empty key', { ...plain, key: Buffer.alloc(0) }, 'neither a UTF-8 key nor ce_subject'],
  ['no value', { ...plain, value: null }, 'no value'],
  ['a value that is not JSON', { ...plain, value: Buffer.from('{oops') }, 'not JSON'],
  ['a value that is not UTF-8', { ...plain, value: Buffer.from([0x22, 0xff, 0x22]) }, 'not UTF-8'],
  ['a bad version', { ...plain, headers: { ...plain.headers, ce_dataversion: '1.5' } }, 'ce_dataversion is "1.5"'],
  ['a bad sequence', { ...plain, headers: { ...plain.headers, ce_sequence: 'x' } }, 'ce_sequence is "x"'],
])('says why a record with %s is undecodable', (_, record, reason) => {
  expect(() => decodeCloudEvent(record)).toThrow(UndecodableError);
  expect(() => decodeCloudEvent(record)).toThrow(reason);
});

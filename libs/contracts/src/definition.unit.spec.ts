import { sealedText } from '@starter/testing';
import { z } from 'zod';
import { defineCommand, defineEvent, RegisterUser, UserRegistered, dateTime, type JsonObject } from './index.js';

const ada = {
  userId: '018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5f',
  email: sealedText('ada@example.com', 'email'),
  name: sealedText('Ada'),
  verificationToken: sealedText('a-token-of-20-letters', 'verificationToken'),
};

it('keeps a date a date through JSON', () => {
  const registeredAt = new Date('2026-01-02T03:04:05.678Z');
  const wire = JSON.stringify(z.encode(UserRegistered.schema, { ...ada, registeredAt }));
  expect(wire).toContain('"2026-01-02T03:04:05.678Z"');
  expect(z.decode(UserRegistered.schema, JSON.parse(wire)).registeredAt).toEqual(registeredAt);
});

it('refuses an unknown field in a command and drops it from an event', () => {
  expect(RegisterUser.schema.safeParse({ ...ada, role: 'admin' }).error?.issues[0]?.code).toBe('unrecognized_keys');
  const event = { ...ada, registeredAt: '2026-01-02T03:04:05.678Z', role: 'admin' };
  expect(z.decode(UserRegistered.schema, event)).not.toHaveProperty('role');
});

it('refuses what is not a date', () => {
  expect(dateTime.safeDecode('yesterday').success).toBe(false);
});

describe('versions', () => {
  const options = { owner: 'spec', schema: z.object({}) };
  const same = (data: object) => data as JsonObject;

  it('accepts one step for each older version', () => {
    expect(defineEvent('it.happened', { ...options, version: 3, upcast: { 1: same, 2: same } }).version).toBe(3);
    expect(defineCommand('it.do', { ...options, version: 2, upcast: { 1: same } }).upcast).toEqual({ 1: same });
  });

  it.each([
    ['it.happened v3 cannot read its older versions; add to upcast: step 1', { version: 3, upcast: { 2: same } }],
    ['it.happened v3 cannot read its older versions; add to upcast: step 1, step 2', { version: 3 }],
    ['it.happened v2 has steps that lead nowhere; remove from upcast: 2', { version: 2, upcast: { 1: same, 2: same } }],
    ['it.happened has version 0; versions are whole numbers from 1', { version: 0 }],
  ])('refuses: %s', (message, wrong) => {
    expect(() => defineEvent('it.happened', { ...options, ...wrong })).toThrow(message);
  });
});

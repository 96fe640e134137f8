import { z } from 'zod';
import { RegisterUser, UserRegistered, dateTime } from './index.js';

const ada = { userId: '018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5f', email: 'ada@example.com', name: 'Ada' };

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

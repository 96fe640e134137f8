import { sealedText } from '@starter/testing';
import { z } from 'zod';
import {
  defineCommand,
  defineEvent,
  personal,
  plain,
  RegisterUser,
  SendEmail,
  sealed,
  UserRegistered,
} from './index.js';

const options = { version: 1, owner: 'spec' };
const userId = '018f3f6e-5a4b-7c3d-8e9f-0a1b2c3d4e5f';
const verificationToken = 'a-token-of-20-letters';

it('a command takes plain or sealed text, and says what is wrong with the plain one', () => {
  const parse = (email: string) => RegisterUser.schema.safeParse({ userId, email, name: ' Ada ', verificationToken });
  expect(parse('ada@example.com').data).toEqual({ userId, email: 'ada@example.com', name: 'Ada', verificationToken });
  expect(parse(sealedText('ada@example.com', 'email')).success).toBe(true);
  expect(parse('ada').error?.issues[0]).toMatchObject({ path: ['email'], message: 'Invalid email address' });
});

it('an event takes sealed text only, and says what to do', () => {
  const sealedTexts = {
    name: sealedText('Ada'),
    verificationToken: sealedText(verificationToken, 'verificationToken'),
  };
  const event = { userId, email: 'ada@example.com', ...sealedTexts, registeredAt: '2026-01-02T03:04:05.678Z' };
  const { error } = UserRegistered.schema.safeDecode(event);
  expect(error?.issues).toMatchObject([{ path: ['email'], message: expect.stringContaining('personal(…)') as string }]);
  expect(UserRegistered.schema.safeDecode({ ...event, email: sealedText('ada@example.com', 'email') }).success).toBe(
    true,
  );
});

it('what people type in is never taken for sealed', () => {
  const name = plain(RegisterUser.schema.shape.name);
  expect(name.safeParse(' Ada ').data).toBe('Ada');
  expect(name.safeParse(sealedText('Ada')).error?.issues[0]?.message).toBe('must not begin with "sealed:"');
});

it('a definition knows where its personal fields are', () => {
  expect(RegisterUser.personal).toEqual(['email', 'name', 'verificationToken']);
  expect(SendEmail.personal).toEqual(['to', 'variables.*']);
  expect(SendEmail.personalTo).toBeUndefined();
  const name = personal(z.string());
  const schema = z.object({
    id: z.string(),
    at: z.object({ street: name.optional() }),
    friends: z.array(z.object({ name: name.nullable() })),
    note: z.string(),
  });
  expect(defineCommand('a.b', { ...options, personalTo: 'id', schema }).personal).toEqual([
    'at.street',
    'friends.*.name',
  ]);
  expect(defineEvent('a.b', { ...options, schema: z.object({ note: z.string() }) })).not.toHaveProperty('personal');
});

it('refuses definitions that would let plain text through', () => {
  const schema = z.object({ id: z.string(), name: personal(z.string()) });
  expect(() => defineCommand('a.b', { ...options, schema })).toThrow('name the field that says whom they are about');
  expect(() => defineEvent('a.b', { ...options, schema })).toThrow('make these fields `sealed(…)`: name');
  const hidden = z.object({ id: z.string(), either: z.union([z.int(), sealed('name')]) });
  expect(() => defineEvent('a.b', { ...options, schema: hidden })).toThrow('a personal field in either');
});

it('takes what was sealed as another field nowhere, and an e-mail nothing about anybody but its recipient', () => {
  const [to, name] = [sealedText('ada@example.com', 'email'), sealedText('Ada', 'name')];
  const token = sealedText(verificationToken, 'verificationToken');
  const problemOf = (email: object) =>
    SendEmail.schema.safeParse({ to, template: 'welcome', variables: {}, ...email }).error?.issues[0]?.message;
  expect(problemOf({ variables: { name, code: token } })).toBeUndefined();
  expect(problemOf({ to: token })).toBe('must be what was sealed as email');
  expect(problemOf({ variables: { name: to } })).toBe('must be what was sealed as name or verificationToken');
  const ofBob = token.replace('spec/somebody', 'spec/bob');
  expect(problemOf({ variables: { name, code: ofBob } })).toBe(
    'variables must be of the person to whom the e-mail goes',
  );
  expect(UserRegistered.schema.safeParse({ userId, email: to, name: token, verificationToken: token }).success).toBe(
    false,
  );
});

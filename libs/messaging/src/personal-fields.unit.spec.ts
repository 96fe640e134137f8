import { z } from 'zod';
import { createMessage } from './message.js';
import { redact, replaceFields, textsAt } from './personal-fields.js';

const sealed = 'sealed:v1:user-service/ada/name:AAAAAAAAAAAAAAAA:AAAAAAAAAAAAAAAAAAAAAA';
const definition = {
  kind: 'command',
  type: 'mail.send',
  version: 2,
  owner: 'spec',
  personal: ['to', 'variables.*', 'items.*.name', 'place.street'],
  schema: z.object({
    template: z.string(),
    to: z.string(),
    variables: z.record(z.string(), z.string()),
    items: z.array(z.object({ name: z.string(), price: z.int() })),
    place: z.object({ street: z.string(), country: z.string() }),
  }),
} as const;
const data = {
  template: 'welcome',
  to: 'ada@example.com',
  variables: { name: 'Ada', nickname: 'A' },
  items: [
    { name: 'ring', price: 1 },
    { name: 'rope', price: 2 },
  ],
  place: { street: 'Main', country: 'GB' },
};

it('finds and replaces the texts at paths, and nothing else', () => {
  expect(textsAt(data, definition.personal)).toEqual(['ada@example.com', 'Ada', 'A', 'ring', 'rope', 'Main']);
  expect(replaceFields(data, definition.personal, () => '-')).toEqual({
    template: 'welcome',
    to: '-',
    variables: { name: '-', nickname: '-' },
    items: [
      { name: '-', price: 1 },
      { name: '-', price: 2 },
    ],
    place: { street: '-', country: 'GB' },
  });
  expect(textsAt({ template: 'welcome' }, definition.personal)).toEqual([]);
});

describe('what is kept of a refused message', () => {
  const kept = (refused: unknown, version = 2) =>
    redact(definition, createMessage({ type: 'mail.send', version, source: 'spec', data: refused })).data;

  it('has no plain text in personal fields, and what is sealed as it is', () => {
    expect(kept({ template: 'welcome', to: sealed, variables: { name: 'Ada' }, items: [{ name: 7 }] })).toEqual({
      template: 'welcome',
      to: sealed,
      variables: { name: '[redacted]' },
      items: [{ name: '[redacted]' }],
    });
  });

  it.each([
    ['a misspelt field', { template: 'a', tto: 'ada@example.com' }],
    ['another shape', { template: 'a', to: ['ada@example.com'], variables: 'Ada', place: 'ada@example.com' }],
    [
      'another shape inside',
      { items: ['Ada'], place: { street: { name: 'Ada' } }, variables: { Ada: { name: 'Ada' } } },
    ],
    ['a list', ['ada@example.com']],
    ['a text', 'ada@example.com'],
  ])('has none in %s', (_, refused) => {
    expect(JSON.stringify(Object.values(kept(refused) as object))).not.toMatch(/ada@example|: ?"Ada/);
  });

  it('has no data at all when the version is another one, whose fields may be others', () => {
    expect(kept(data, 1)).toBe('[redacted]');
    expect(kept(data, 3)).toBe('[redacted]');
  });

  it('is the message itself when the definition has no personal fields', () => {
    const { personal: _, ...harmless } = definition;
    const message = createMessage({ type: 'mail.send', version: 2, source: 'spec', data });
    expect(redact(harmless, message)).toBe(message);
  });
});

import type { Json, WorkflowNode } from './definition.js';
import { resolve, type Values } from './reference.js';

const step = (command: string): WorkflowNode => ({ kind: 'task', command, version: 1, input: {} });
const values: Values = {
  definition: {
    kind: 'chain',
    steps: [step('a'), { kind: 'chain', steps: [step('b')] }, { kind: 'chain', steps: [] }],
  },
  mostBytes: 1_000,
  start: (target) =>
    target.from === 'input'
      ? { email: 'ada@example.com', address: { lines: ['one', 'two'] }, nothing: null }
      : ({ '0.0': { messageId: 'm1', items: [{ id: 7 }] }, '0.1.0': 'done', '0.2': null } as Record<string, Json>)[
          target.path
        ],
};
const resolved = (template: Json) => resolve(template, '0.3 email.send', values);

it('puts a value in the place of each reference and leaves the rest', () => {
  const template = {
    to: { $ref: 'input.email' },
    lines: [{ $ref: 'input.address.lines.1' }, 'three'],
    all: { $ref: 'input.address' },
    nothing: { $ref: 'input.nothing' },
    message: { id: { $ref: 'results.0.0.messageId' }, item: { $ref: 'results.0.0.items.0.id' } },
    deep: { $ref: 'results.0.1.0' },
    empty: { $ref: 'results.0.2' },
    count: 3,
  };
  expect(resolved(template)).toEqual({
    to: 'ada@example.com',
    lines: ['two', 'three'],
    all: { lines: ['one', 'two'] },
    nothing: null,
    message: { id: 'm1', item: 7 },
    deep: 'done',
    empty: null,
    count: 3,
  });
});

it.each([
  [{ to: { $ref: 'input.mail' } }, '0.3 email.send.to: "input.mail" has no value; there is no field "mail"'],
  [
    { a: [{ $ref: 'input.address.lines.2' }] },
    '0.3 email.send.a.0: "input.address.lines.2" has no value; there is no field "2"',
  ],
  [{ to: { $ref: 'input.email.domain' } }, 'there is no field "domain"'],
  [{ to: { $ref: 'input.constructor' } }, 'there is no field "constructor"'],
  [{ to: { $ref: 'results.0.1' } }, '0.3 email.send.to: "results.0.1" has no value'],
  [{ to: { $ref: 'results.0.7.id' } }, '"results.0.7.id" names the place 0.7, which the definition lacks'],
  [
    { to: { $ref: 'results.1.id' } },
    '"results.1.id" is no reference; write input.<field>, results.<path>.<field> or item.<path>.<field>',
  ],
  [
    { to: { $ref: 'env.SECRET' } },
    '"env.SECRET" is no reference; write input.<field>, results.<path>.<field> or item.<path>.<field>',
  ],
  [{ to: { $ref: 'item.0.1.email' } }, '"item.0.1.email" names the place 0.1, which is no forEach and has no items'],
  [{ to: { $ref: 3 } }, 'a reference is an object with a text "$ref" and nothing else'],
  [{ to: { $ref: 'input.email', or: 'else' } }, 'a reference is an object with a text "$ref" and nothing else'],
] as [Json, string][])('%j fails and names the place', (template, message) => {
  expect(() => resolved(template)).toThrow(message);
});

import { TerminalError } from './errors.js';
import {
  bounds,
  findUnstorable,
  nameProblem,
  shortened,
  storableInstant,
  storableText,
  storableValue,
} from './storable.js';

const nested = (depth: number): unknown => Array.from({ length: depth }).reduce((inner) => [inner], 1 as unknown);

it.each<[string, unknown, string | undefined]>([
  ['a plain value', { a: [1, 'é😀', null, true] }, undefined],
  ['U+0000', { a: ['x', 'b\0'] }, 'a.1'],
  ['U+0000 in a name', { a: { 'b\0': 1 } }, 'a.b\u{FFFD}'],
  ['a high surrogate alone', { a: '\ud800' }, 'a'],
  ['a low surrogate alone', 'x\udc00', ''],
  ['a bigint', { a: 1n }, 'a'],
  ['as many levels as are taken', nested(bounds.depth), undefined],
  ['a level more', nested(bounds.depth + 1), expect.stringMatching(/^0\.0\.0/)],
])('finds %s', (_, value, field) => {
  const found = findUnstorable(value);
  if (field === undefined) expect(found).toBeUndefined();
  else expect(found).toEqual({ field, problem: expect.any(String) as string });
});

it('looks into a value of 100 000 levels, or into a circle, no deeper than it has to', () => {
  const circle: { self?: unknown } = {};
  circle.self = circle;
  for (const value of [nested(100_000), circle]) expect(findUnstorable(value)?.problem).toContain('too deep');
});

it('replaces what cannot be stored in what our own code says, and keeps the rest as it is', () => {
  const value = { a: ['fine'] };
  expect(storableValue(value, 'it')).toBe(value);
  expect(storableValue({ 'n\0': ['\ud83d', 'ok'] }, 'it')).toEqual({ 'n\u{FFFD}': ['\u{FFFD}', 'ok'] });
  expect(storableText('a\0b\udfff')).toBe('a\u{FFFD}b\u{FFFD}');
  expect(() => storableValue(nested(1_000), 'the result')).toThrow(TerminalError);
  expect(() => storableValue({ a: 1n }, 'the result')).toThrow('the result cannot be stored: a is a bigint');
  expect(shortened('ab😀', 3)).toBe('ab\u{FFFD}');
});

it.each<[string, boolean]>([
  ['user-1', true],
  ['käse/ü', true],
  ['x'.repeat(255), true],
  ['x'.repeat(256), false],
  ['ü'.repeat(128), false],
  ['line\nbreak', false],
  ['nul\0', false],
  ['\ud800', false],
  ['\u{FFFD}', false],
])('tells whether %j can be a name', (name, fits) => {
  expect(nameProblem(name) === undefined).toBe(fits);
});

it.each<[string | number, string | undefined]>([
  ['2026-01-02T03:04:05Z', '2026-01-02T03:04:05.000Z'],
  ['2026-01-02T03:04:05.123456789+02:00', '2026-01-02T01:04:05.123Z'],
  [0, '1970-01-01T00:00:00.000Z'],
  [NaN, undefined],
  [8.64e15, undefined],
  ['+275760-01-01T00:00:00Z', undefined],
  ['0000-01-01T00:00:00Z', undefined],
  ['9999-12-31T23:59:59-10:00', undefined],
  ['5', undefined],
])('takes instants that PostgreSQL reads the same: %j', (value, instant) => {
  expect(storableInstant(value)).toBe(instant);
});

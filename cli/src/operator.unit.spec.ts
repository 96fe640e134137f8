import { toInstant, toWholeNumber } from './operator.js';

it.each([
  ['2026-11-25', Date.UTC(2026, 10, 25)],
  ['2026-11-25T08:30Z', Date.UTC(2026, 10, 25, 8, 30)],
  ['2026-11-25T08:30:15.250+01:00', Date.UTC(2026, 10, 25, 7, 30, 15, 250)],
])('reads the instant %s', (text, time) => expect(toInstant(text).getTime()).toBe(time));

it.each(['', 'yesterday', '2026', '2026-02-40', '2026-11-25T08:30', '25.11.2026', 'x 1'])(
  'does not guess which instant %p is',
  (text) => expect(() => toInstant(text)).toThrow('Write it like 2026-11-25T08:30:00Z'),
);

it('reads whole numbers and nothing else', () => {
  expect(toWholeNumber('120')).toBe(120);
  for (const text of ['', '-1', '1.5', '1e3', '0x10', '99999999999999999']) {
    expect(() => toWholeNumber(text)).toThrow('It is a whole number.');
  }
});

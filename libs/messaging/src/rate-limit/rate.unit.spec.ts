import { parseRate } from './rate.js';

it.each([
  ['5/s', 200, 1],
  ['1000/s', 1, 100],
  ['10/m', 6_000, 1],
  ['100/h', 36_000, 1],
  ['100/hour', 36_000, 1],
  [' 1 / day ', 86_400_000, 1],
  ['60/min', 1_000, 1],
])('%s is one every %d ms, %d at once', (text, everyMs, burst) => {
  expect(parseRate(text)).toEqual({ everyMs, burst });
});

it.each(['100/fortnight', '-1/s', '0/s', '1.5/s', '5', '/s', '', '5/s/s', '1e3/s', '5 per s', '9999999999/s'])(
  'refuses %j and shows what is right',
  (text) => {
    expect(() => parseRate(text)).toThrow(`"${text}" is no rate limit; write how many per s, m, h or d, such as "5/s"`);
  },
);

import { withinTime } from './time-limit.js';

it('gives back what the code gives back, and throws what it throws', () => {
  expect(withinTime(1_000, 'it', () => 42)).toBe(42);
  expect(() =>
    withinTime(1_000, 'it', () => {
      throw new RangeError('mine');
    }),
  ).toThrow(RangeError);
});

it('cuts off what never ends, and runs the next as if nothing had happened', () => {
  const endless = () => {
    for (;;);
  };
  expect(() => withinTime(20, 'a decision of actor user', endless)).toThrow(
    'a decision of actor user took longer than 20 ms and was cut off; look for a loop that does not end',
  );
  expect(withinTime(1_000, 'it', () => 42)).toBe(42);
});

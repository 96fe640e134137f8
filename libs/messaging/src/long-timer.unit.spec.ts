import { jest } from '@jest/globals';
import { longSleep, longTimeout } from './long-timer.js';

const day = 86_400_000;

beforeEach(() => void jest.useFakeTimers());
afterEach(() => void jest.useRealTimers());

it.each([1, 100, 24 * day, 30 * day, 90 * day])('calls back after %d ms, once and not before', (ms) => {
  let calls = 0;
  longTimeout(() => (calls += 1), ms);
  jest.advanceTimersByTime(ms - 1);
  expect(calls).toBe(0);
  jest.advanceTimersByTime(1);
  expect(calls).toBe(1);
  jest.advanceTimersByTime(90 * day);
  expect(calls).toBe(1);
});

it('sleeps for 30 days', async () => {
  let awake = false;
  const sleeping = longSleep(30 * day, new AbortController().signal).then(() => (awake = true));
  await jest.advanceTimersByTimeAsync(30 * day - 1);
  expect(awake).toBe(false);
  await jest.advanceTimersByTimeAsync(1);
  await sleeping;
  expect(jest.getTimerCount()).toBe(0);
});

it('wakes up when the signal aborts, before or meanwhile', async () => {
  await longSleep(30 * day, AbortSignal.abort());
  const over = new AbortController();
  const sleeping = longSleep(30 * day, over.signal);
  over.abort();
  await sleeping;
  expect(jest.getTimerCount()).toBe(0);
});

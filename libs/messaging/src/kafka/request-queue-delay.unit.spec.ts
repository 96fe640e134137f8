import { createRequire } from 'node:module';
import { jest } from '@jest/globals';
import './request-queue-delay.js';

interface RequestQueue {
  throttledUntil: number;
  pending: object[];
  scheduleCheckPendingRequests(): void;
  destroy(): void;
}

const logger = { debug: () => undefined };
const RequestQueue = createRequire(import.meta.url)('kafkajs/src/network/requestQueue/index.js') as new (options: {
  logger: object;
}) => RequestQueue;

/** Delays of the timers that the queue sets. */
function delaysOf(prepare: (queue: RequestQueue) => void): (number | undefined)[] {
  const setTimer = jest.spyOn(globalThis, 'setTimeout');
  const queue = new RequestQueue({ logger });
  prepare(queue);
  queue.scheduleCheckPendingRequests();
  const delays = setTimer.mock.calls.map(([, delay]) => delay);
  queue.destroy();
  setTimer.mockRestore();
  return delays;
}

it('sets no timer of a negative delay, of which Node 24 warns', () => {
  expect(delaysOf(() => undefined)).toEqual([]);
});

it('still comes back to what is pending, and waits while the broker throttles', () => {
  expect(delaysOf((queue) => queue.pending.push({}))).toEqual([10]);
  const [delay = 0] = delaysOf((queue) => (queue.throttledUntil = Date.now() + 5_000));
  expect(delay).toBeGreaterThan(4_000);
});

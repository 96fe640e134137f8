import { createMessage } from '../message.js';
import { deadLetter, discard, done, doneAs, retry, type Outcome } from '../outcome.js';
import { Histogram } from './histogram.js';
import { QueueMonitor } from './queue-monitor.js';

const deliveryOf = (type: string) => ({
  message: createMessage({ type, version: 1, source: 'spec', data: {} }),
  attempt: 1,
  redelivered: false,
  origin: 'spec',
});

it('counts each delivery once, by what became of it', async () => {
  const monitor = new QueueMonitor();
  const consumer = monitor.consumer('spec');
  consumer.expect('known');
  const outcomes: Outcome[] = [
    ...[done, done, done, done, doneAs.duplicates, doneAs.parked, retry(0, ''), discard('')],
    ...[deadLetter(''), deadLetter('')],
  ];
  for (const outcome of outcomes) await consumer.watch(async () => outcome)(deliveryOf('known'));
  monitor.published('event', 'known');
  expect(monitor.snapshot()).toEqual({
    published: 1,
    publishFailures: 0,
    consumers: [
      {
        ...{ consumer: 'spec', consumed: 10, inFlight: 0, errorRate: 0.3, meanProcessingMs: expect.any(Number) },
        ...{ handled: 4, duplicates: 1, parked: 1, retried: 1, discarded: 1, deadLettered: 2 },
      },
    ],
  });
  expect(consumer.types.get('known')?.processing.count).toBe(10);
});

it('counts what is in hand, and none of it when the handler throws', async () => {
  const consumer = new QueueMonitor().consumer('spec');
  let fail!: (error: Error) => void;
  const delivered = consumer.watch(() => new Promise((_, reject) => (fail = reject)))(deliveryOf('known'));
  expect(consumer.inFlight).toBe(1);
  fail(new Error('defect'));
  await expect(delivered).rejects.toThrow('defect');
  expect(consumer.inFlight).toBe(0);
  expect(Object.values(consumer.totals).every((count) => count === 0)).toBe(true);
});

it('counts published types by name up to a bound, whatever is published', () => {
  const monitor = new QueueMonitor();
  for (let n = 0; n < 2_000; n++) monitor.published('command', `type-${n}`);
  expect(monitor.publications.length).toBe(501);
  expect(monitor.snapshot().published).toBe(2_000);
});

it('puts an observation into every bucket that is large enough', () => {
  const histogram = new Histogram([1, 2, 4]);
  for (const value of [0.5, 1, 1.5, 3, 100]) histogram.observe(value);
  expect(histogram.cumulative).toEqual([2, 3, 4]);
  expect({ count: histogram.count, sum: histogram.sum, mean: histogram.mean }).toEqual({
    count: 5,
    sum: 106,
    mean: 21.2,
  });
});

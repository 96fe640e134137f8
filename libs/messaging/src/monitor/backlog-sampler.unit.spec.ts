import type { DataSource } from 'typeorm';
import { silentLogger } from '../logger.js';
import { createMessage } from '../message.js';
import { done, type Outcome } from '../outcome.js';
import type { Consumer } from '../transport/delivery.js';
import { BacklogSampler } from './backlog-sampler.js';
import { QueueMonitor } from './queue-monitor.js';

/** A consumer that only looks alive: the broker holds messages for it, and it is given none. */
function consumerWith({ waiting = 0, attached = true, inFlight = 0 } = {}) {
  const rebuilt: string[] = [];
  const consumer = {
    ...{ attached, inFlight },
    backlog: async () => waiting,
    rebuild: (why: string) => void rebuilt.push(why),
    close: async () => undefined,
  } as unknown as Consumer;
  const monitor = new QueueMonitor();
  monitor.consumer('spec').follow(consumer);
  const dataSource = { driver: { master: { query: async () => ({ rows: [] }) } } } as unknown as DataSource;
  return { monitor, rebuilt, sampler: new BacklogSampler({ dataSource, monitor, logger: silentLogger, silentMs: 0 }) };
}

const message = createMessage({ type: 'spec', version: 1, source: 'spec', data: {} });
const delivery = { message, attempt: 1, redelivered: false, origin: 'spec' };

it('rebuilds a consumer that gets nothing although messages wait for it', async () => {
  const { sampler, rebuilt } = consumerWith({ waiting: 3 });
  await sampler.sample();
  expect(rebuilt).toHaveLength(1);
  expect(sampler.latest.waiting.get('spec')).toBe(3);
});

it.each([
  ['nothing waits', { waiting: 0 }],
  ['it is being rebuilt anyway', { waiting: 3, attached: false }],
  ['what waits behind is held up by an event that waits for its next attempt', { waiting: 3, inFlight: 1 }],
])('leaves it alone when %s', async (_, state) => {
  const { sampler, rebuilt } = consumerWith(state);
  await sampler.sample();
  expect(rebuilt).toEqual([]);
});

it('leaves it alone while it has something in hand', async () => {
  const { sampler, rebuilt, monitor } = consumerWith({ waiting: 3 });
  let finish!: (outcome: Outcome) => void;
  const delivered = monitor.consumer('spec').watch(() => new Promise((resolve) => (finish = resolve)))(delivery);
  await sampler.sample();
  expect(rebuilt).toEqual([]);
  finish(done);
  await delivered;
});

import type { DataSource } from 'typeorm';
import { silentLogger } from '../logger.js';
import { createMessage } from '../message.js';
import { done, type Outcome } from '../outcome.js';
import type { Consumer } from '../transport/delivery.js';
import { BacklogSampler } from './backlog-sampler.js';
import { QueueMonitor } from './queue-monitor.js';

interface State {
  readonly waiting?: number;
  readonly attached?: boolean;
  readonly inFlight?: number;
  readonly problem?: string;
}

/** A consumer that only looks alive: the broker holds messages for it, and it is given none. */
function consumerWith({ waiting = 0, ...state }: State = {}) {
  const rebuilt: string[] = [];
  const counts = { waiting };
  const consumer = {
    ...{ attached: true, inFlight: 0, ...state },
    backlog: async () => counts.waiting,
    rebuild: (why: string) => void rebuilt.push(why),
    close: async () => undefined,
  } as unknown as Consumer;
  const monitor = new QueueMonitor();
  monitor.consumer('spec').follow(consumer);
  const dataSource = { driver: { master: { query: async () => ({ rows: [] }) } } } as unknown as DataSource;
  return {
    monitor,
    rebuilt,
    counts,
    sampler: new BacklogSampler({ dataSource, monitor, logger: silentLogger, silentMs: 0 }),
  };
}

const message = createMessage({ type: 'spec', version: 1, source: 'spec', data: {} });
const delivery = { message, attempt: 1, redelivered: false, origin: 'spec' };

it('rebuilds a consumer that gets nothing although messages wait for it', async () => {
  const { sampler, rebuilt } = consumerWith({ waiting: 3 });
  await sampler.sample();
  expect(rebuilt).toHaveLength(1);
  expect(sampler.latest.waiting.get('spec')).toBe(3);
});

it('does not rebuild it again before something new waits', async () => {
  const { sampler, rebuilt, counts } = consumerWith({ waiting: 3 });
  for (let n = 0; n < 3; n++) await sampler.sample();
  expect(rebuilt).toHaveLength(1);
  counts.waiting = 4;
  for (let n = 0; n < 3; n++) await sampler.sample();
  expect(rebuilt).toHaveLength(2);
});

it.each<[string, State]>([
  ['nothing waits', { waiting: 0 }],
  ['it is known what keeps it from them', { waiting: 3, problem: 'a batch that cannot be read' }],
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

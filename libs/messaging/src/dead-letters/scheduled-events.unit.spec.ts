import { jest } from '@jest/globals';
import type { DataSource } from 'typeorm';
import { silentLogger } from '../logger.js';
import { createMessage } from '../message.js';
import { done, type Outcome } from '../outcome.js';
import { ScheduledEvents } from './scheduled-events.js';

/** One scheduled event, or none, as the database would tell. */
let dueAt: number;
let statements: string[];
let handled: number[];
let outcome: Promise<Outcome>;
let scheduled: ScheduledEvents;

const message = createMessage({ type: 'spec', version: 1, source: 'spec', data: {} });
const answers: Record<string, () => object[]> = {
  'dead-letter-due': () => [{ dueInMs: dueAt === Infinity ? null : dueAt - Date.now() }],
  'dead-letter-take': () => {
    if (dueAt > Date.now()) return [];
    dueAt = Infinity;
    return [{ id: message.id, message, attempts: 1, redrives: 0 }];
  },
};
const query = async ({ name }: { name: string }) => {
  statements.push(name);
  return { rows: answers[name]?.() ?? [] };
};

beforeEach(() => {
  jest.useFakeTimers();
  dueAt = Infinity;
  statements = [];
  handled = [];
  outcome = Promise.resolve(done);
  scheduled = new ScheduledEvents({
    consumer: 'spec',
    dataSource: { driver: { master: { query } } } as unknown as DataSource,
    logger: silentLogger,
    handler: () => (handled.push(Date.now()), outcome),
  });
  scheduled.start();
});
afterEach(async () => {
  jest.useRealTimers();
  await scheduled.stop(0);
});
const pass = (ms: number) => jest.advanceTimersByTimeAsync(ms);

it('only looks, and seldom, while nothing is scheduled', async () => {
  await pass(60_000);
  expect(new Set(statements)).toEqual(new Set(['dead-letter-due']));
  expect(statements.length).toBeLessThan(15);
});

it('looks again when the next one is due', async () => {
  await pass(1_000);
  const due = (dueAt = Date.now() + 6_000);
  await pass(6_000);
  expect(handled).toEqual([due]);
});

it('takes what somebody else has made due at its next look', async () => {
  await pass(1_000);
  dueAt = Date.now();
  await pass(5_000);
  expect(handled).toHaveLength(1);
});

it('keeps its claim on what takes long, and looks again at once when that has ended', async () => {
  let settle!: (outcome: Outcome) => void;
  outcome = new Promise((resolve) => (settle = resolve));
  dueAt = Date.now();
  await pass(60_000);
  expect(handled).toHaveLength(1);
  expect(statements.filter((name) => name === 'dead-letter-keep').length).toBeGreaterThan(1);
  const before = statements.length;
  settle(done);
  await pass(0);
  expect(statements.slice(before)).toEqual(['dead-letter-remove', 'dead-letter-due']);
});

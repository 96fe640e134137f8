import { jest } from '@jest/globals';
import { encodeCloudEvent } from '../kafka/cloud-event.js';
import { sizeOf } from '../kafka/publication.js';
import { createMessage } from '../message.js';
import type { Transaction } from '../database/transaction.js';
import { Outbox, type OutboxEntry } from './outbox.js';

const entry = (channel: OutboxEntry['channel'], text: string): OutboxEntry => ({
  channel,
  address: 'spec',
  message: createMessage({ type: 'spec.said', version: 1, source: 'spec', data: { text } }),
});

it('takes no event that its broker would never take, counted in bytes; commands have no such limit', () => {
  const outbox = new Outbox(2_000);
  const allowed = entry('event', 'x'.repeat(600));
  expect(outbox.prepare([allowed])?.columns[4]).toBe(JSON.stringify([allowed.message]));
  expect(() => outbox.prepare([allowed, entry('event', '€'.repeat(300))])).toThrow(
    /spec\.said takes up to \d{4} bytes, and events of at most 2000 can be published; .* raise EVENT_MAX_BYTES/,
  );
  expect(outbox.prepare([entry('command', 'x'.repeat(5_000))])?.columns).toHaveLength(5);
  expect(outbox.prepare([])).toBeUndefined();
});

it('counts at least what the record of an event takes with its headers', () => {
  const message = createMessage({
    ...{ type: 'spec.said', version: 1, source: 'a-service-of-this-spec', subject: 'spec-1', sequence: 1_000_000 },
    ...{ causationId: 'x'.repeat(36), traceparent: 'x'.repeat(55), data: { text: '€' } },
    replyTo: { address: 'orchestrator.replies', subject: 'workflow-1' },
  });
  const takes = sizeOf(encodeCloudEvent(message));
  const event = { channel: 'event', address: 'spec', message } as const;
  expect(() => new Outbox(takes - 1).prepare([event])).toThrow('can be published');
  expect(new Outbox(takes + 1_000).prepare([event])).toBeDefined();
});

/** A transaction of which the client hears when it is told to. */
function transaction(position: number) {
  const afterCommit: (() => void)[] = [];
  const afterEnd: (() => void)[] = [];
  const query = () => Promise.resolve([{ position: String(position), shard: 0, alone: true }]);
  const push = (actions: (() => void)[]) => (action: () => void) => void actions.push(action);
  const tx = { query, afterCommit: push(afterCommit), afterEnd: push(afterEnd) } as unknown as Transaction;
  const end = ({ committed = true } = {}) => {
    if (committed) afterCommit.forEach((action) => action());
    afterEnd.forEach((action) => action());
  };
  return { tx, end };
}

it('hands over no key that two transactions write at once, or that one may have committed unheard', async () => {
  jest.useFakeTimers();
  const outbox = new Outbox();
  const handed: (string | undefined)[] = [];
  outbox.onWritten({
    takesRowsAs: 'spec',
    written: (_, rows) => void handed.push(rows?.map(({ position }) => position).join()),
  });
  const ofKey = (orderingKey: string) => [{ ...entry('event', 'x'), orderingKey }];
  const [first, second, other, third] = [transaction(1), transaction(2), transaction(3), transaction(4)];
  await outbox.add(first.tx, ofKey('k'));
  await outbox.add(second.tx, ofKey('k'));
  await outbox.add(other.tx, ofKey('other'));
  second.end();
  other.end();
  first.end({ committed: false });
  expect(handed).toEqual([undefined, '3']);
  // The connection of the first broke: it may have committed, and what it wrote must not be overtaken.
  await outbox.add(third.tx, ofKey('k'));
  third.end();
  expect(handed).toEqual([undefined, '3', undefined]);
  jest.advanceTimersByTime(120_000);
  const fourth = transaction(5);
  await outbox.add(fourth.tx, ofKey('k'));
  fourth.end();
  expect(handed).toEqual([undefined, '3', undefined, '5']);
  jest.useRealTimers();
});

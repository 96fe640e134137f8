import { testSeed } from '@starter/testing';
import type { Channel, ConsumeMessage } from 'amqplib';
import fc from 'fast-check';
import { AdaptivePrefetch } from './adaptive-prefetch.js';

const most = 20;

/** A broker that has always something to deliver, and gives each of its consumers as much as its prefetch lets it. */
function newBroker() {
  let [qos, tags] = [0, 0];
  const consumers = new Map<string, number>();
  const unsettled: ConsumeMessage[] = [];
  const channel = {
    prefetch: async (count: number) => void (qos = count),
    consume: async () => {
      const consumerTag = `tag-${(tags += 1)}`;
      consumers.set(consumerTag, qos);
      return { consumerTag };
    },
    cancel: async (tag: string) => void consumers.delete(tag),
  } as unknown as Channel;
  const prefetch = new AdaptivePrefetch({ channel, queue: 'q', most, onMessage: () => undefined });
  return {
    prefetch,
    unsettled,
    deliver: () => {
      for (const [consumerTag, size] of consumers) {
        const given = unsettled.filter(({ fields }) => fields.consumerTag === consumerTag).length;
        for (let n = given; n < size; n += 1) {
          const raw = { content: Buffer.alloc(10), fields: { consumerTag } } as ConsumeMessage;
          unsettled.push(raw);
          prefetch.delivered(raw);
        }
      }
    },
    settle: (index: number) => {
      for (const raw of unsettled.splice(index % Math.max(1, unsettled.length), 1)) prefetch.settled(raw);
    },
  };
}

it('never has more unsettled than it may, counts their bytes, and arrives at the limit when all is settled', async () => {
  const step = fc.oneof(
    fc.record({ limit: fc.integer({ min: 1, max: most }) }),
    fc.record({ settle: fc.nat(most) }),
    fc.constant('deliver' as const),
  );
  const property = fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
    const { prefetch, unsettled, deliver, settle } = newBroker();
    await prefetch.adaptTo(most);
    for (const what of steps) {
      if (what === 'deliver') deliver();
      else if ('settle' in what) settle(what.settle);
      else await prefetch.adaptTo(what.limit);
      expect(unsettled.length).toBeLessThanOrEqual(most);
      expect(prefetch.bytes).toBe(unsettled.length * 10);
    }
    while (unsettled.length > 0) settle(0);
    for (const limit of [1, 7, most]) {
      await prefetch.adaptTo(limit);
      deliver();
      expect(unsettled).toHaveLength(limit);
      while (unsettled.length > 0) settle(0);
    }
    await prefetch.cancel();
    deliver();
    expect(unsettled).toEqual([]);
  });
  await fc.assert(property, { seed: testSeed(), numRuns: 300 });
});

it('takes what there is room for rather than nothing, and waits for the rest', async () => {
  const { prefetch, unsettled, deliver, settle } = newBroker();
  await prefetch.adaptTo(most);
  deliver();
  await prefetch.adaptTo(10);
  deliver();
  // The cancelled consumer's are all still there.
  expect(unsettled).toHaveLength(most);
  for (let n = 0; n < 3; n += 1) settle(0);
  await prefetch.adaptTo(10);
  deliver();
  expect(unsettled).toHaveLength(most);
  while (unsettled.length > 0) settle(0);
  await prefetch.adaptTo(10);
  deliver();
  expect(unsettled).toHaveLength(10);
});

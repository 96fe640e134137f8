import { AckBatch } from './ack-batch.js';

/** Records what would go to the broker. */
function recorded(): { batch: AckBatch; frames: string[] } {
  const frames: string[] = [];
  const batch = new AckBatch({
    ack: ({ fields }, allUpTo) => frames.push(`ack ${allUpTo ? '<=' : ''}${fields.deliveryTag}`),
    nack: ({ fields }, _, requeue) => frames.push(`nack ${fields.deliveryTag} ${requeue}`),
  });
  return { batch, frames };
}

const deliver = (batch: AckBatch, ...tags: number[]): void => tags.forEach((tag) => batch.delivered(tag));

describe('AckBatch', () => {
  it('acknowledges what is settled without a gap in one frame', () => {
    const { batch, frames } = recorded();
    deliver(batch, 1, 2, 3, 4);
    [2, 1, 3].forEach((tag) => batch.ack(tag));
    batch.flush();
    expect(frames).toEqual(['ack <=3']);
  });

  it('never covers a delivery that is not settled', () => {
    const { batch, frames } = recorded();
    deliver(batch, 1, 2, 3, 4, 5);
    [1, 3, 5].forEach((tag) => batch.ack(tag));
    batch.flush();
    expect(frames).toEqual(['ack 3', 'ack 5', 'ack <=1']);
    batch.ack(2);
    batch.flush();
    expect(frames.at(-1)).toBe('ack <=2');
  });

  it('gives back at once, before a batch that would cover it', () => {
    const { batch, frames } = recorded();
    deliver(batch, 1, 2, 3);
    batch.ack(1);
    batch.ack(3);
    batch.requeue(2);
    batch.flush();
    expect(frames).toEqual(['nack 2 true', 'ack <=3']);
  });

  it('flushes by itself at the end of the turn, once', async () => {
    const { batch, frames } = recorded();
    deliver(batch, 1, 2);
    batch.ack(1);
    batch.ack(2);
    await new Promise((resolve) => setImmediate(resolve));
    expect(frames).toEqual(['ack <=2']);
  });

  it('is quiet on a channel that has closed', () => {
    const closed = (): never => {
      throw new Error('Channel closed');
    };
    const batch = new AckBatch({ ack: closed, nack: closed });
    deliver(batch, 1, 2);
    batch.ack(1);
    expect(() => batch.flush()).not.toThrow();
    expect(() => batch.requeue(2)).not.toThrow();
  });
});

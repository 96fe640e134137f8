import { LinkedQueue } from './linked-queue.js';

describe('LinkedQueue', () => {
  it('is first in, first out', () => {
    const queue = new LinkedQueue<number>();
    [1, 2, 3].forEach((n) => queue.push(n));
    expect(queue.first).toBe(1);
    expect([queue.shift(), queue.shift(), queue.shift(), queue.shift()]).toEqual([1, 2, 3, undefined]);
    expect(queue.size).toBe(0);
  });

  it('takes back in front', () => {
    const queue = new LinkedQueue<number>();
    queue.unshift(2);
    queue.push(3);
    queue.unshift(1);
    expect([...queue]).toEqual([1, 2, 3]);
    expect(queue.size).toBe(3);
  });

  it('is usable after it was emptied', () => {
    const queue = new LinkedQueue<number>();
    queue.push(1);
    queue.clear();
    queue.push(2);
    expect([...queue]).toEqual([2]);
    queue.shift();
    queue.push(3);
    expect([...queue]).toEqual([3]);
  });
});

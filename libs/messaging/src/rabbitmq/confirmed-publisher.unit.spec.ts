import { EventEmitter } from 'node:events';
import { IllegalOperationError, type ConfirmChannel } from 'amqplib';
import { InvalidMessageError, NotConfirmedError, UnroutableError } from '../errors.js';
import type { AmqpMessage } from './amqp-envelope.js';
import { ConfirmedPublisher } from './confirmed-publisher.js';

type Confirm = (error: Error | null) => void;

/** A channel whose broker answers when the test says so. */
class ScriptedChannel extends EventEmitter {
  readonly published: { id: string; exchange: string; key: string; confirm: Confirm }[] = [];
  full = false;
  closing = false;

  publish(exchange: string, key: string, _content: Buffer, options: { messageId: string }, confirm: Confirm): boolean {
    if (this.closing) throw new IllegalOperationError('Channel closing');
    if (options.messageId.length > 255) throw new TypeError('too long');
    this.published.push({ id: options.messageId, exchange, key, confirm });
    return !this.full;
  }

  get ids(): string[] {
    return this.published.map(({ id }) => id);
  }

  confirm(id: string, error: Error | null = null): void {
    this.published.find((publication) => publication.id === id)?.confirm(error);
  }

  confirmAll(): void {
    for (const { confirm } of this.published) confirm(null);
  }

  returnUnroutable(messageId: string): void {
    this.emit('return', { fields: { exchange: 'commands', routingKey: 'key' }, properties: { messageId } });
  }

  /** As the broker does because of one message: an error, then the end of everything that is not confirmed. */
  fail(code: number, text: string, unconfirmed: readonly string[] = this.ids): void {
    this.closing = true;
    this.emit('error', Object.assign(new Error(text), { code }));
    for (const id of unconfirmed) this.confirm(id, new Error('channel closed'));
  }
}

const message = (messageId: string): AmqpMessage => ({ properties: { messageId }, content: Buffer.from('1') });

function open({ confirmWindow = 2, sendTimeoutMs = 10_000, replaceChannel = () => {} } = {}) {
  const publisher = new ConfirmedPublisher({ confirmWindow, sendTimeoutMs, replaceChannel });
  const attach = (): ScriptedChannel => {
    const channel = new ScriptedChannel();
    publisher.attach(channel as unknown as ConfirmChannel);
    return channel;
  };
  const publish = (id: string, key = 'key'): Promise<void> => publisher.publish('commands', key, message(id));
  return { publisher, attach, publish };
}

describe('ConfirmedPublisher', () => {
  it('resolves when the broker confirms, and not before', async () => {
    const { attach, publish } = open();
    const channel = attach();
    let confirmed = false;
    const published = publish('a').then(() => (confirmed = true));
    await new Promise((resolve) => setImmediate(resolve));
    expect(confirmed).toBe(false);
    channel.confirm('a');
    await published;
  });

  it('has no more under way than its window', async () => {
    const { attach, publish } = open();
    const channel = attach();
    const all = Promise.all(['a', 'b', 'c'].map((id) => publish(id)));
    expect(channel.ids).toEqual(['a', 'b']);
    channel.confirm('b');
    expect(channel.ids).toEqual(['a', 'b', 'c']);
    channel.confirm('a');
    channel.confirm('c');
    await all;
  });

  it('waits while the socket is full, and for no drain of a channel that is gone', async () => {
    const { publisher, attach, publish } = open({ confirmWindow: 10, sendTimeoutMs: 10_000 });
    const first = attach();
    first.full = true;
    const all = Promise.all(['a', 'b', 'c'].map((id) => publish(id)));
    expect(first.ids).toEqual(['a']);
    first.emit('drain');
    expect(first.ids).toEqual(['a', 'b']);
    first.confirm('a');
    first.confirm('b');
    publisher.detach();
    const second = attach();
    expect(second.ids).toEqual(['c']);
    second.confirm('c');
    await all;
  });

  it('rejects exactly the message that was returned', async () => {
    const { attach, publish } = open();
    const channel = attach();
    const [a, b] = [publish('a'), publish('b')];
    channel.returnUnroutable('b');
    channel.confirm('a');
    channel.confirm('b');
    await a;
    await expect(b).rejects.toThrow(UnroutableError);
    await expect(b).rejects.toThrow(/deploy its consumer/);
  });

  it('rejects what the broker refuses', async () => {
    const { attach, publish } = open();
    const channel = attach();
    const a = publish('a');
    channel.confirm('a', new Error('message nacked'));
    await expect(a).rejects.toThrow(NotConfirmedError);
  });

  it('when the channel closes rejects what was written and keeps what was not for the next channel', async () => {
    const { publisher, attach, publish } = open();
    const first = attach();
    const [a, b, c] = [publish('a'), publish('b'), publish('c')];
    first.closing = true;
    first.confirm('a', new Error('channel closed'));
    first.confirm('b', new Error('channel closed'));
    publisher.detach();
    await expect(a).rejects.toThrow(/channel closed.*send it again/);
    await expect(b).rejects.toThrow(NotConfirmedError);
    expect(publisher.ready).toBe(false);
    const second = attach();
    expect(second.ids).toEqual(['c']);
    second.confirm('c');
    await c;
  });

  it('rejects what waits too long for a channel', async () => {
    const { publish } = open({ confirmWindow: 2, sendTimeoutMs: 20 });
    await expect(publish('a')).rejects.toThrow(/did not confirm it within 20 ms.*check that it runs/);
  });

  it('rejects what a broker that is blocked does not take', async () => {
    const { publisher, attach, publish } = open({ confirmWindow: 2, sendTimeoutMs: 20 });
    const channel = attach();
    const a = publish('a');
    publisher.block('low on memory');
    const b = publish('b');
    expect(publisher.ready).toBe(false);
    await expect(a).rejects.toThrow(/low on memory/);
    await expect(b).rejects.toThrow(NotConfirmedError);
    expect(channel.ids).toEqual(['a']);
  });

  it('close waits for what is under way and refuses what comes later', async () => {
    const { publisher, attach, publish } = open();
    const channel = attach();
    const a = publish('a');
    const closed = publisher.close();
    await expect(publish('b')).rejects.toThrow(/the transport is closed/);
    channel.confirm('a');
    await Promise.all([a, closed]);
  });

  it('fails a message at its time, whatever else is confirmed meanwhile, and ignores a late confirmation', async () => {
    const { attach, publish } = open({ confirmWindow: 2, sendTimeoutMs: 100 });
    const channel = attach();
    const dead = publish('dead', 'no-majority').catch((error: unknown) => error);
    let flowing = true;
    const others = (async () => {
      for (let n = 0; flowing; n += 1) {
        const sent = publish(`good-${n}`);
        await new Promise((resolve) => setImmediate(resolve));
        channel.confirm(`good-${n}`);
        await sent;
      }
    })();
    expect(await dead).toBeInstanceOf(NotConfirmedError);
    flowing = false;
    await others;
    channel.confirm('dead');
    const next = publish('next', 'no-majority');
    channel.confirm('next');
    await next;
  });

  it('loses no window to destinations that confirm nothing, and soon gives each but one place', async () => {
    const { attach, publish } = open({ confirmWindow: 5, sendTimeoutMs: 50 });
    const channel = attach();
    const attempts = Array.from({ length: 30 }, (_, n) => publish(`dead-${n}`, 'no-majority'));
    expect(channel.ids).toHaveLength(5);
    const good = Array.from({ length: 5 }, (_, n) => publish(`good-${n}`));
    expect(channel.ids.slice(5)).toEqual(['good-0', 'good-1', 'good-2', 'good-3', 'good-4']);
    for (let n = 0; n < 5; n += 1) channel.confirm(`good-${n}`);
    await Promise.all(good);
    for (const { status } of await Promise.allSettled(attempts)) expect(status).toBe('rejected');
    const written = channel.published.length;
    const later = Array.from({ length: 30 }, (_, n) => publish(`later-${n}`, 'no-majority').catch(() => undefined));
    expect(channel.published.length).toBe(written + 1);
    const healthy = publish('healthy');
    channel.confirm('healthy');
    await healthy;
    // It has its majority back: the first confirmation opens the window again.
    channel.confirm('later-0');
    expect(channel.published.length).toBe(written + 2 + 5);
    channel.confirmAll();
    channel.confirmAll();
    for (let n = 0; n < 30; n += 1) channel.confirm(`later-${n}`);
    await Promise.all(later);
  });

  it('asks for another channel before the account of what is never confirmed grows, when nothing is under way', async () => {
    let replaced = 0;
    const { publisher, attach, publish } = open({
      confirmWindow: 1,
      sendTimeoutMs: 20,
      replaceChannel: () => void (replaced += 1),
    });
    const channel = attach();
    for (const id of ['a', 'b', 'c', 'x']) await expect(publish(id, 'no-majority')).rejects.toThrow(NotConfirmedError);
    expect(replaced).toBe(1);
    expect(channel.ids).toEqual(['a', 'b', 'c', 'x']);
    const kept = publish('d');
    publisher.detach();
    const next = attach();
    next.confirm('d');
    await kept;
  });

  it.each([
    [404, "NOT_FOUND - no exchange 'commands' in vhost '/'", 'UnroutableError', 'destination'],
    [403, 'ACCESS_REFUSED - write access refused', 'ForbiddenDestinationError', 'destination'],
    [
      406,
      'PRECONDITION_FAILED - message size 20 is larger than configured max size 10',
      'MessageTooLargeError',
      'message',
    ],
    [406, 'PRECONDITION_FAILED - user_id property set', 'InvalidMessageError', 'message'],
  ])('finds the message for which the broker closed the channel: %i %s', async (code, text, name, blames) => {
    const { publisher, attach, publish } = open({ confirmWindow: 10 });
    const first = attach();
    const [a, culprit, c] = [publish('a'), publish('culprit'), publish('c')];
    const failed = culprit.catch((error: unknown) => error);
    first.fail(code, text);
    publisher.detach();
    const later = publish('later');
    const second = attach();
    expect(second.ids).toEqual(['a']);
    second.confirm('a');
    await a;
    expect(second.ids).toEqual(['a', 'culprit']);
    second.fail(code, text, ['culprit']);
    publisher.detach();
    expect(await failed).toMatchObject({ name, blames });
    const third = attach();
    expect(third.ids).toEqual(['c']);
    third.confirm('c');
    expect(third.ids).toEqual(['c', 'later']);
    third.confirm('later');
    await Promise.all([c, later]);
  });

  it('blames no message for a channel that the broker closed for a reason of its own', async () => {
    const { attach, publish } = open();
    const channel = attach();
    const a = publish('a');
    channel.fail(541, 'INTERNAL_ERROR');
    await expect(a).rejects.toThrow(NotConfirmedError);
  });

  it('refuses what cannot be encoded, and the rest goes on', async () => {
    const { attach, publish } = open();
    const channel = attach();
    await expect(publish('x'.repeat(256))).rejects.toThrow(InvalidMessageError);
    const a = publish('a');
    channel.confirm('a');
    await a;
  });

  it('tells twins apart by where they go', async () => {
    const { attach, publish } = open();
    const channel = attach();
    const [known, unknown] = [publish('a', 'other'), publish('a')];
    channel.returnUnroutable('a');
    for (const { confirm } of channel.published) confirm(null);
    await known;
    await expect(unknown).rejects.toThrow(UnroutableError);
  });
});

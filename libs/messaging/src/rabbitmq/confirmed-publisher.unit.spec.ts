import { EventEmitter } from 'node:events';
import { IllegalOperationError, type ConfirmChannel } from 'amqplib';
import { NotConfirmedError, UnroutableError } from '../errors.js';
import type { AmqpMessage } from './amqp-envelope.js';
import { ConfirmedPublisher } from './confirmed-publisher.js';

type Confirm = (error: Error | null) => void;

/** A channel whose broker answers when the test says so. */
class ScriptedChannel extends EventEmitter {
  readonly published: { id: string; confirm: Confirm }[] = [];
  full = false;
  closing = false;

  publish(
    _exchange: string,
    _key: string,
    _content: Buffer,
    options: { messageId: string },
    confirm: Confirm,
  ): boolean {
    if (this.closing) throw new IllegalOperationError('Channel closing');
    this.published.push({ id: options.messageId, confirm });
    return !this.full;
  }

  get ids(): string[] {
    return this.published.map(({ id }) => id);
  }

  confirm(id: string, error: Error | null = null): void {
    this.published.find((publication) => publication.id === id)?.confirm(error);
  }

  returnUnroutable(messageId: string): void {
    this.emit('return', { fields: { exchange: 'commands', routingKey: 'key' }, properties: { messageId } });
  }
}

const message = (messageId: string): AmqpMessage => ({ properties: { messageId }, content: Buffer.from('1') });

function open(options = { confirmWindow: 2, sendTimeoutMs: 10_000 }) {
  const publisher = new ConfirmedPublisher(options);
  const attach = (): ScriptedChannel => {
    const channel = new ScriptedChannel();
    publisher.attach(channel as unknown as ConfirmChannel);
    return channel;
  };
  const publish = (id: string): Promise<void> => publisher.publish('commands', 'key', message(id));
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
    const all = Promise.all(['a', 'b', 'c'].map(publish));
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
    const all = Promise.all(['a', 'b', 'c'].map(publish));
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
    await expect(publish('a')).rejects.toThrow(/confirmed nothing for 20 ms.*check that it runs/);
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
});

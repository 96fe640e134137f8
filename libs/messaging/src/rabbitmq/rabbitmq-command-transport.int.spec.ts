import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectAmqp, type Channel, type ChannelModel } from 'amqplib';
import { TerminalError, TransientError, UnroutableError } from '../errors.js';
import { createMessage, type Message } from '../message.js';
import { done, retry } from '../outcome.js';
import type { CommandTransport } from '../transport/command-transport.js';
import type { Delivery } from '../transport/delivery.js';
import { connectRabbitMq } from './rabbitmq-command-transport.js';

async function eventually(condition: () => boolean, what: string): Promise<void> {
  for (const deadline = Date.now() + 30_000; !condition(); await sleep(10)) {
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}`);
  }
}

const command = (type: string, n = 1): Message => createMessage({ type, version: 1, source: 'spec', data: { n } });

describe('connectRabbitMq', () => {
  it('says what to do when nothing answers', async () => {
    const connecting = connectRabbitMq({ url: 'amqp://guest:secret@127.0.0.1:1', startTimeoutMs: 50 });
    await expect(connecting).rejects.toThrow(TransientError);
    await expect(connecting).rejects.toThrow(/127\.0\.0\.1:1 .*ECONNREFUSED.*start it/);
    await expect(connecting).rejects.not.toThrow(/secret/);
  });

  it('says what to do when the URL is none', async () => {
    await expect(connectRabbitMq({ url: 'not a url' })).rejects.toThrow(/give one like amqp:/);
  });
});

const url = process.env['RABBITMQ_URL'];
if (url) {
  describe('the RabbitMQ transport, where the broker acts by itself', () => {
    let transport: CommandTransport;
    let connection: ChannelModel;
    let plain: Channel;
    let queue: string;
    let deliveries: Delivery[];

    beforeEach(async () => {
      transport = await connectRabbitMq({ url });
      connection = await connectAmqp(url);
      plain = await connection.createChannel();
      plain.on('error', () => undefined);
      queue = `spec.${randomUUID()}`;
      deliveries = [];
      await transport.declare({
        exchanges: [{ name: 'commands', type: 'direct' }],
        queues: [{ name: queue }],
        bindings: [{ exchange: 'commands', queue, routingKey: queue }],
      });
    });
    afterEach(async () => {
      await transport.close();
      const cleaning = await connection.createChannel();
      for (const name of [queue, `${queue}.dead-letter`, `${queue}.retry.50`]) await cleaning.deleteQueue(name);
      await connection.close();
    });

    it('rebuilds a consumer that the broker cancelled, with its queue and binding', async () => {
      const consumer = await transport.consume(queue, async (delivery) => {
        deliveries.push(delivery);
        return done;
      });
      await plain.deleteQueue(queue);
      await eventually(() => !consumer.attached, 'the cancellation was noticed');
      await eventually(() => consumer.attached, 'the consumer is attached again');
      await transport.send(command(queue));
      await eventually(() => deliveries.length === 1, 'it receives again');
    });

    it('tells what waits, and attaches again when it is told to, with what was in hand', async () => {
      const consumer = await transport.consume(
        queue,
        async (delivery) => {
          deliveries.push(delivery);
          return deliveries.length === 1 ? new Promise(() => undefined) : done;
        },
        { prefetch: 1 },
      );
      for (const n of [1, 2, 3]) await transport.send(command(queue, n));
      await eventually(() => deliveries.length === 1, 'one is in hand');
      expect(await consumer.backlog()).toBe(2);
      consumer.rebuild('spec');
      await eventually(() => !consumer.attached, 'the old channel is gone');
      await eventually(() => consumer.attached, 'the consumer is attached again');
      await consumer.close(0);
      await eventually(() => !consumer.attached, 'it is closed');
      const other = await transport.consume(queue, async (delivery) => (deliveries.push(delivery), done));
      await eventually(
        () => new Set(deliveries.slice(1).map(({ message }) => message.id)).size === 3,
        'all three came',
      );
      expect(await other.backlog()).toBe(0);
    });

    it('declares a retry queue again that somebody deleted, and loses nothing', async () => {
      await transport.consume(queue, async (delivery) => {
        deliveries.push(delivery);
        return delivery.attempt === 1 ? retry(50, 'later') : done;
      });
      await transport.send(command(queue, 1));
      await eventually(() => deliveries.length === 2, 'the first message was retried');
      await plain.deleteQueue(`${queue}.retry.50`);
      await transport.send(command(queue, 2));
      await eventually(() => deliveries.at(-1)?.attempt === 2 && deliveries.length > 3, 'the second was retried');
    });

    // As long as the broker is told to wait (dead_letter_worker_publisher_confirm_timeout); its default is 180 s.
    it('gets a retry that came due while its queue was full, soon after there is room', async () => {
      await plain.deleteQueue(queue);
      const full = { 'x-queue-type': 'quorum', 'x-overflow': 'reject-publish', 'x-max-length': 2 };
      await plain.assertQueue(queue, { durable: true, arguments: full });
      const consumer = await transport.consume(queue, async (delivery) => {
        deliveries.push(delivery);
        return delivery.attempt === 1 && delivery.message.type === 'to-retry' ? retry(50, 'later') : done;
      });
      await transport.send(command('to-retry'), { exchange: '', routingKey: queue });
      await eventually(() => deliveries.length === 1, 'it is to be tried again');
      await consumer.close();
      const filling = await connection.createConfirmChannel();
      let refused = false;
      while (!refused) {
        filling.sendToQueue(queue, Buffer.from('{}'), { type: 'filler' });
        refused = await filling.waitForConfirms().then(
          () => false,
          () => true,
        );
      }
      for (let waiting = 1; waiting > 0; await sleep(50)) {
        waiting = (await plain.checkQueue(`${queue}.retry.50`)).messageCount;
      }
      await plain.purgeQueue(queue);
      await transport.consume(queue, async (delivery) => {
        deliveries.push(delivery);
        return done;
      });
      await eventually(() => deliveries.some(({ attempt }) => attempt === 2), 'the retry has come');
    });

    it('leaves no record of the broker on a retried message, which the broker would take for a loop', async () => {
      await transport.consume(queue, async (delivery) => {
        deliveries.push(delivery);
        return delivery.attempt < 4 ? retry(50, 'later') : retry(0, 'at the back');
      });
      await transport.send(command(queue));
      await eventually(() => deliveries.length >= 6, 'it went round many times');
    });

    it('reports an exchange that was deleted as unroutable, and recovers', async () => {
      const exchange = `spec.direct.${randomUUID()}`;
      await transport.declare({
        exchanges: [{ name: exchange, type: 'direct' }],
        bindings: [{ exchange, queue, routingKey: queue }],
      });
      await transport.send(command(queue), { exchange });
      await plain.deleteExchange(exchange);
      // The first one learns it from the channel that the broker closes, and fails none of those that it was under way with.
      const first = transport.send(command(queue), { exchange });
      const others = Array.from({ length: 50 }, (_, n) => transport.send(command(queue, n)));
      await expect(first).rejects.toThrow(UnroutableError);
      await Promise.all(others);
      await expect(transport.send(command(queue), { exchange })).rejects.toThrow(UnroutableError);
      await transport.send(command(queue));
    });

    it('refuses a queue of another kind and says what to do', async () => {
      const classic = `spec.classic.${randomUUID()}`;
      await plain.assertQueue(classic, { durable: true });
      const declaring = transport.declare({ queues: [{ name: classic }] });
      await expect(declaring).rejects.toThrow(TerminalError);
      await expect(declaring).rejects.toThrow(/another shape.*Delete it once it is empty/s);
      await transport.send(command(queue));
      await plain.deleteQueue(classic);
      await plain.deleteQueue(`${classic}.dead-letter`);
    });
  });
}

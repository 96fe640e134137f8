import { eventually, uniqueName } from '@starter/testing';
import { connectKafka } from '../kafka/kafka-event-transport.js';
import { MemoryCommandTransport } from '../memory/memory-command-transport.js';
import { MemoryEventTransport } from '../memory/memory-event-transport.js';
import { createMessage } from '../message.js';
import { done, type Outcome } from '../outcome.js';
import { connectRabbitMq } from '../rabbitmq/rabbitmq-command-transport.js';
import type { CommandTransport } from '../transport/command-transport.js';
import type { Consumer, Delivery, DeliveryHandler } from '../transport/delivery.js';
import type { EventTransport } from '../transport/event-transport.js';
import type { FlowOptions } from './flow-gate.js';

interface Line {
  /** Message `n`, of the text that it is given. */
  send(...texts: readonly string[]): Promise<void>;
  consume(handler: DeliveryHandler, most: number, flow: FlowOptions): Promise<Consumer>;
  close(): Promise<void>;
}

const partitions = 3;

async function commandLine(transport: CommandTransport): Promise<Line> {
  const queue = uniqueName('queue');
  await transport.declare({ queues: [{ name: queue }] });
  const send = (text: string) =>
    transport.send(createMessage({ type: 'spec.do', version: 1, source: 'spec', data: { text } }), {
      exchange: '',
      routingKey: queue,
    });
  return {
    send: async (...texts) => void (await Promise.all(texts.map(send))),
    consume: (handler, prefetch, flow) => transport.consume(queue, handler, { prefetch, flow }),
    close: () => transport.close(),
  };
}

async function eventLine(transport: EventTransport): Promise<Line> {
  const topic = uniqueName('topic');
  await transport.declare([{ name: topic, partitions }]);
  const event = (text: string, n: number) =>
    createMessage({ type: 'spec.done', version: 1, source: 'spec', subject: `key-${n}`, sequence: 1, data: { text } });
  return {
    send: async (...texts) => void (await transport.publish(topic, texts.map(event))),
    consume: (handler, concurrency, flow) => transport.subscribe({ topic, group: 'spec', concurrency, flow }, handler),
    close: () => transport.close(),
  };
}

const { RABBITMQ_URL: url, KAFKA_BROKERS: brokers } = process.env;
const lines: [string, () => Promise<Line>][] = [
  ['commands in memory', () => commandLine(new MemoryCommandTransport())],
  ['events in memory', () => eventLine(new MemoryEventTransport())],
];
if (url) lines.push(['commands over RabbitMQ', async () => commandLine(await connectRabbitMq({ url }))]);
if (brokers) {
  const options = { clientId: 'spec', brokers: brokers.split(',') };
  lines.push(['events over Kafka', async () => eventLine(await connectKafka(options))]);
}

/** Handlers that end when they are told to, the oldest first. */
function newWork() {
  const running: (() => void)[] = [];
  let [handled, bytes, mostBytes, most] = [0, 0, 0, 0];
  return {
    handle: async ({ message }: Delivery): Promise<Outcome> => {
      const size = JSON.stringify(message.data).length;
      bytes += size;
      mostBytes = Math.max(mostBytes, bytes);
      most = Math.max(most, running.length + 1);
      await new Promise<void>((resolve) => running.push(resolve));
      bytes -= size;
      handled += 1;
      return done;
    },
    /** Ends one. */
    end: () => running.shift()?.(),
    measureAnew: () => void (most = running.length),
    get running() {
      return running.length;
    },
    get seen() {
      return { handled, most, mostBytes };
    },
  };
}

describe.each(lines)('what is in hand: %s', (_, open) => {
  let line: Line;
  beforeEach(async () => {
    line = await open();
  });
  afterEach(() => line.close());

  it('stays within its bytes when messages are large, however many there are', async () => {
    const work = newWork();
    const [count, maxBytes] = [30, 2_000_000];
    await line.send(...Array.from({ length: count }, () => 'x'.repeat(500_000)));
    const consumer = await line.consume(work.handle, 20, { maxBytes });
    for (let ended = 0; ended < count; ended += 1) {
      await eventually(() => expect(work.running).toBeGreaterThan(0));
      expect(consumer.flow.bytes).toBeGreaterThan(500_000);
      expect(consumer.flow.bytes).toBeLessThanOrEqual(maxBytes);
      work.end();
      await eventually(() => expect(work.seen.handled).toBe(ended + 1));
    }
    expect(work.seen.mostBytes).toBeLessThanOrEqual(maxBytes);
    // Not one by one either.
    expect(work.seen.most).toBeGreaterThanOrEqual(2);
    await eventually(() => expect(consumer.flow).toMatchObject({ inFlight: 0, bytes: 0 }));
  });

  it('takes a message alone that is larger than all that may be in hand', async () => {
    const work = newWork();
    const consumer = await line.consume(work.handle, 20, { maxBytes: 1_000 });
    await line.send('x'.repeat(5_000));
    await eventually(() => expect(work.running).toBe(1));
    work.end();
    await eventually(() => expect(consumer.flow).toMatchObject({ inFlight: 0, bytes: 0 }));
  });

  it('shrinks while what is behind it is overloaded, grows again afterwards, and loses nothing', async () => {
    const work = newWork();
    let load = 0;
    const most = 16;
    const consumer = await line.consume(work.handle, most, { pressure: () => load });
    await line.send(...Array.from({ length: 300 }, () => 'small'));
    await eventually(() => expect(work.running).toBe(most));
    load = 3;
    await eventually(() => expect(consumer.flow).toMatchObject({ state: 'slow_down', limit: 1 }));
    for (let left = most; left > 1; left -= 1) {
      work.end();
      await eventually(() => expect(work.running).toBeLessThan(left));
    }
    work.measureAnew();
    for (let ended = 0; ended < 20; ended += 1) {
      const before = work.seen.handled;
      await eventually(() => expect(work.running).toBe(1));
      work.end();
      await eventually(() => expect(work.seen.handled).toBe(before + 1));
    }
    expect(work.seen.most).toBe(1);
    load = 0;
    await eventually(() => expect(work.running).toBe(most));
    expect(consumer.flow).toMatchObject({ limit: most, inFlight: most });
    await eventually(() => {
      while (work.running > 0) work.end();
      expect(work.seen.handled).toBe(300);
    });
    expect(work.seen.most).toBe(most);
  });

  it('has no more in hand than it may when the consumer is a hundred times slower than its producer', async () => {
    const [count, most] = [2_000, 10];
    let [handled, running, mostRunning] = [0, 0, 0];
    const flows: number[] = [];
    const handle = async (): Promise<Outcome> => {
      running += 1;
      mostRunning = Math.max(mostRunning, running);
      flows.push(consumer.flow.inFlight);
      await new Promise((resolve) => setTimeout(resolve, 5));
      running -= 1;
      handled += 1;
      return done;
    };
    const consumer = await line.consume(handle, most, {});
    const text = 'x'.repeat(1_000);
    for (let sent = 0; sent < count; sent += 500) await line.send(...Array.from({ length: 500 }, () => text));
    await eventually(() => expect(handled).toBe(count));
    expect(mostRunning).toBeLessThanOrEqual(most);
    expect(Math.max(...flows)).toBeLessThanOrEqual(most);
  });
});

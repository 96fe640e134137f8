import { randomUUID } from 'node:crypto';
import { connect as connectSocket, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect as connectAmqp } from 'amqplib';
import { NotConfirmedError, TerminalError, UnroutableError } from '../errors.js';
import { MemoryCommandBroker } from '../memory/memory-command-broker.js';
import { MemoryCommandTransport } from '../memory/memory-command-transport.js';
import { createMessage, type Message, type MessageFields } from '../message.js';
import { deadLetter, discard, done, retry, type Outcome } from '../outcome.js';
import type { AmqpMessage, AmqpProperties } from '../rabbitmq/amqp-envelope.js';
import { connectRabbitMq } from '../rabbitmq/rabbitmq-command-transport.js';
import type { CommandTransport } from './command-transport.js';
import type { DeadLetterDelivery } from './dead-letter.js';
import { deadLetterHeaders, type Delivery } from './delivery.js';

/** What the suite needs of a broker besides the transport: a plain client, and a crash. */
interface TestBroker {
  connect(sendTimeoutMs?: number): Promise<CommandTransport>;
  /** Publishes whatever it is given, as a client of another language would. */
  put(queue: string, properties: AmqpProperties, content: Buffer): Promise<void>;
  /** Takes the oldest message out of a queue. */
  take(queue: string): Promise<AmqpMessage | undefined>;
  remove(queues: readonly string[], exchanges: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

interface CrashingBroker extends TestBroker {
  crash(): Promise<void>;
  restart(): Promise<void>;
}

interface Adapter {
  readonly name: string;
  open(): Promise<TestBroker>;
  openCrashing(): Promise<CrashingBroker>;
}

const memory: Adapter = {
  name: 'memory',
  open: async () => memoryBroker(),
  openCrashing: async () => memoryBroker(),
};

function memoryBroker(): CrashingBroker {
  const broker = new MemoryCommandBroker();
  return {
    connect: async (sendTimeoutMs = 10_000) => new MemoryCommandTransport(broker, { sendTimeoutMs }),
    put: async (queue, properties, content) => broker.publish('', queue, { properties, content }),
    take: async (queue) => broker.queue(queue).pull(),
    remove: async (queues) => queues.forEach((queue) => broker.deleteQueue(queue)),
    close: async () => undefined,
    crash: async () => broker.stop(),
    restart: async () => broker.start(),
  };
}

const rabbitMq = (url: string): Adapter => ({
  name: 'rabbitmq',
  open: () => rabbitMqBroker(url),
  openCrashing: () => crashingRabbitMq(url),
});

async function rabbitMqBroker(url: string): Promise<TestBroker> {
  /** A connection for each call: it must work again after the broker was restarted. */
  const plainly = async <T>(
    use: (channel: Awaited<ReturnType<typeof openPlain>>['channel']) => Promise<T>,
  ): Promise<T> => {
    const { connection, channel } = await openPlain(url);
    try {
      return await use(channel);
    } finally {
      await connection.close();
    }
  };
  return {
    connect: (sendTimeoutMs = 10_000) => connectRabbitMq({ url, sendTimeoutMs }),
    put: (queue, properties, content) =>
      plainly(async (channel) => {
        channel.sendToQueue(queue, content, properties as object);
        await channel.waitForConfirms();
      }),
    take: (queue) => plainly(async (channel) => (await channel.get(queue, { noAck: true })) || undefined),
    remove: (queues, exchanges) =>
      plainly(async (channel) => {
        for (const queue of queues) await channel.deleteQueue(queue);
        for (const exchange of exchanges) await channel.deleteExchange(exchange);
      }),
    close: async () => undefined,
  };
}

async function openPlain(url: string) {
  const connection = await connectAmqp(url);
  return { connection, channel: await connection.createConfirmChannel() };
}

/** A node of our own that is killed; where none can be started, a proxy that cuts every connection to the given one. */
async function crashingRabbitMq(url: string): Promise<CrashingBroker> {
  const { startRabbitMq, MissingPrerequisiteError } = await import('@starter/local-backends');
  try {
    const node = await startRabbitMq();
    const broker = await rabbitMqBroker(node.url);
    const crash = async (): Promise<void> => {
      // RabbitMQ 3.10 writes the name of a new quorum queue down only when it has had nothing to write for half a second, which
      // takes long on a busy machine, and cannot revive a queue whose name it missed.
      await node.control('eval', '[ok = dets:sync(Table) || Table <- dets:all()].');
      await node.kill();
    };
    return { ...broker, crash, restart: () => node.start(), close: () => node.stop() };
  } catch (error) {
    if (!(error instanceof MissingPrerequisiteError)) throw error;
    const proxy = await startProxy(url);
    const broker = await rabbitMqBroker(url);
    const connect = (sendTimeoutMs = 10_000) => connectRabbitMq({ url: proxy.url, sendTimeoutMs });
    return { ...broker, connect, crash: proxy.cut, restart: proxy.mend, close: proxy.close };
  }
}

/** Between a client and the broker, to break what is between them. */
async function startProxy(url: string) {
  const target = new URL(url);
  const sockets = new Set<Socket>();
  let open = true;
  const server: Server = createServer((client) => {
    const broker = connectSocket(Number(target.port || 5672), target.hostname);
    for (const socket of [client, broker]) {
      sockets.add(socket);
      socket.on('error', () => undefined);
      socket.on('close', () => [client, broker].forEach((end) => end.destroy()));
    }
    client.pipe(broker);
    broker.pipe(client);
    if (!open) client.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const through = new URL(url);
  through.hostname = '127.0.0.1';
  through.port = String((server.address() as AddressInfo).port);
  const cut = async (): Promise<void> => {
    open = false;
    sockets.forEach((socket) => socket.destroy());
    sockets.clear();
  };
  return {
    url: through.href,
    cut,
    mend: async () => void (open = true),
    close: async () => {
      await cut();
      server.close();
    },
  };
}

async function eventually(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = Date.now() + 30_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}`);
    await sleep(10);
  }
}

/** A promise that the test settles. */
function gate(): { opened: Promise<void>; open: () => void } {
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { opened, open };
}

const command = (type: string, fields: Partial<MessageFields> = {}): Message =>
  createMessage({ type, version: 1, source: 'spec', data: { n: 1 }, ...fields });

const numberOf = ({ data }: Message): number => (data as { n: number }).n;

const rabbitMqUrl = process.env['RABBITMQ_URL'];

describe.each([memory, ...(rabbitMqUrl ? [rabbitMq(rabbitMqUrl)] : [])])('command transport: $name', (adapter) => {
  let broker: TestBroker;
  let transport: CommandTransport;
  let opened: CommandTransport[];
  let queues: string[];
  let exchanges: string[];

  beforeAll(async () => {
    broker = await adapter.open();
  });
  afterAll(() => broker.close());

  beforeEach(async () => {
    [opened, queues, exchanges] = [[], [], []];
    transport = await connect();
  });
  afterEach(async () => {
    await Promise.all(opened.map((one) => one.close()));
    await broker.remove(queues, exchanges);
  });

  async function connect(): Promise<CommandTransport> {
    const one = await broker.connect();
    opened.push(one);
    return one;
  }

  /** A queue that gets the commands of type `<its name>`. */
  async function declareQueue(): Promise<string> {
    const name = `spec.${randomUUID()}`;
    queues.push(name, `${name}.dead-letter`);
    await transport.declare({
      exchanges: [{ name: 'commands', type: 'direct' }],
      queues: [{ name }],
      bindings: [{ exchange: 'commands', queue: name, routingKey: name }],
    });
    return name;
  }

  async function declareExchange(type: 'direct' | 'topic' | 'fanout'): Promise<string> {
    const name = `spec.${type}.${randomUUID()}`;
    exchanges.push(name);
    await transport.declare({ exchanges: [{ name, type }] });
    return name;
  }

  const bind = (exchange: string, queue: string, routingKey: string): Promise<void> =>
    transport.declare({ bindings: [{ exchange, queue, routingKey }] });

  /** Numbers of the messages in a queue, oldest first. */
  async function drain(queue: string): Promise<unknown[]> {
    const found: unknown[] = [];
    for (let next = await broker.take(queue); next; next = await broker.take(queue)) {
      found.push((JSON.parse(next.content.toString()) as { n: unknown }).n);
    }
    return found;
  }

  async function taken(queue: string): Promise<AmqpMessage> {
    let found: AmqpMessage | undefined;
    await eventually(async () => (found = await broker.take(queue)) !== undefined, `there is a message in ${queue}`);
    return found as AmqpMessage;
  }

  describe('sending', () => {
    it('resolves once the message is stored', async () => {
      const queue = await declareQueue();
      await transport.send(command(queue));
      expect(await broker.take(queue)).toBeDefined();
    });

    it('writes persistent JSON under the names that any client knows', async () => {
      const queue = await declareQueue();
      const message = command(queue, {
        data: { name: 'Åsa', n: 1 },
        subject: 'user-1',
        sequence: 7,
        causationId: 'cause',
        correlationId: 'conversation',
        replyTo: { address: 'orchestrator', subject: 'workflow-1' },
        traceparent: '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01',
      });
      await transport.send(message);
      const { properties, content } = await taken(queue);
      expect(content.toString('utf8')).toBe('{"name":"Åsa","n":1}');
      expect(properties).toMatchObject({
        messageId: message.id,
        type: queue,
        appId: 'spec',
        correlationId: 'conversation',
        replyTo: 'orchestrator',
        contentType: 'application/json',
        contentEncoding: 'utf-8',
        deliveryMode: 2,
        timestamp: Math.floor(Date.parse(message.time) / 1000),
        headers: {
          version: 1,
          time: message.time,
          subject: 'user-1',
          sequence: 7,
          'causation-id': 'cause',
          'reply-subject': 'workflow-1',
          traceparent: message.traceparent,
          attempt: 1,
        },
      });
    });

    it('keeps the order of the calls, however many are under way', async () => {
      const queue = await declareQueue();
      const numbers = Array.from({ length: 2000 }, (_, n) => n);
      await Promise.all(numbers.map((n) => transport.send(command(queue, { data: { n } }))));
      const seen: number[] = [];
      await transport.consume(queue, async ({ message }) => {
        seen.push(numberOf(message));
        return done;
      });
      await eventually(() => seen.length >= numbers.length, 'all were delivered');
      expect(seen).toEqual(numbers);
    });

    it('shares nothing with the sender', async () => {
      const queue = await declareQueue();
      const data = { n: 1 };
      await transport.send(command(queue, { data }));
      data.n = 2;
      expect(await drain(queue)).toEqual([1]);
    });

    it('rejects exactly the messages that no queue is bound for', async () => {
      const queue = await declareQueue();
      const results = await Promise.allSettled([
        transport.send(command(queue, { data: { n: 1 } })),
        transport.send(command('spec.nobody')),
        transport.send(command(queue, { data: { n: 2 } })),
        transport.send(command(queue), { exchange: `spec.none.${randomUUID()}` }),
        transport.send(command(queue, { data: { n: 3 } })),
      ]);
      expect(results.map(({ status }) => status)).toEqual([
        'fulfilled',
        'rejected',
        'fulfilled',
        'rejected',
        'fulfilled',
      ]);
      expect((results[1] as PromiseRejectedResult).reason).toBeInstanceOf(UnroutableError);
      expect((results[1] as PromiseRejectedResult).reason).toMatchObject({ blames: 'destination' });
      expect((results[3] as PromiseRejectedResult).reason).toBeInstanceOf(UnroutableError);
      expect(await drain(queue)).toEqual([1, 2, 3]);
    });

    it('refuses exactly what cannot be written, whatever is under way beside it', async () => {
      const queue = await declareQueue();
      const cycle: Record<string, unknown> = { n: 0 };
      cycle['self'] = cycle;
      const long = 'é'.repeat(128);
      const bad = [
        transport.send(command(queue, { id: long })),
        transport.send(command(queue, { source: long })),
        transport.send(command(queue, { correlationId: long })),
        transport.send(command(queue, { replyTo: { address: long, subject: 's' } })),
        transport.send(command(queue), { routingKey: long }),
        transport.send(command(queue), { exchange: long }),
        transport.send(command(queue, { time: 'yesterday' })),
        transport.send(command(queue, { traceparent: 'x'.repeat(70_000) })),
        transport.send(command(queue, { subject: 's'.repeat(40_000), causationId: 'c'.repeat(40_000) })),
        transport.send(command(queue, { data: cycle })),
      ];
      const good = Array.from({ length: 20 }, (_, n) => transport.send(command(queue, { data: { n } })));
      for (const outcome of await Promise.allSettled(bad)) {
        expect(outcome).toMatchObject({ reason: { name: 'InvalidMessageError', blames: 'message' } });
      }
      await Promise.all(good);
      expect(await drain(queue)).toEqual(good.map((_, n) => n));
    });

    it('rejects once the transport is closed', async () => {
      const queue = await declareQueue();
      expect(transport.connected).toBe(true);
      await transport.close();
      expect(transport.connected).toBe(false);
      await expect(transport.send(command(queue))).rejects.toBeInstanceOf(NotConfirmedError);
    });
  });

  describe('routing', () => {
    it('direct: by the exact key', async () => {
      const [exchange, red, blue] = [await declareExchange('direct'), await declareQueue(), await declareQueue()];
      await bind(exchange, red, 'red');
      await bind(exchange, blue, 'blue');
      await transport.send(command('paint', { data: { n: 1 } }), { exchange, routingKey: 'red' });
      await transport.send(command('paint', { data: { n: 2 } }), { exchange, routingKey: 'blue' });
      await transport.send(command('blue', { data: { n: 3 } }), { exchange });
      expect([await drain(red), await drain(blue)]).toEqual([[1], [2, 3]]);
    });

    it('topic: by words, with * for one and # for any number', async () => {
      const [exchange, one, any] = [await declareExchange('topic'), await declareQueue(), await declareQueue()];
      await bind(exchange, one, 'user.*');
      await bind(exchange, any, 'user.#');
      await bind(exchange, any, '#.done');
      for (const [n, routingKey] of ['user', 'user.a', 'user.a.b', 'mail.done', 'user.done'].entries()) {
        await transport.send(command('any', { data: { n } }), { exchange, routingKey });
      }
      await expect(transport.send(command('any'), { exchange, routingKey: 'mail.done.now' })).rejects.toBeInstanceOf(
        UnroutableError,
      );
      expect([await drain(one), await drain(any)]).toEqual([
        [1, 4],
        [0, 1, 2, 3, 4],
      ]);
    });

    it('fanout: to every queue, whatever the key', async () => {
      const [exchange, left, right] = [await declareExchange('fanout'), await declareQueue(), await declareQueue()];
      await bind(exchange, left, '');
      await bind(exchange, right, 'ignored');
      await transport.send(command('any'), { exchange });
      expect([await drain(left), await drain(right)]).toEqual([[1], [1]]);
    });

    it('refuses another shape and an unknown queue with advice, and stays usable', async () => {
      const [exchange, queue] = [await declareExchange('topic'), await declareQueue()];
      const redeclared = transport.declare({ exchanges: [{ name: exchange, type: 'fanout' }] });
      await expect(redeclared).rejects.toThrow(TerminalError);
      await expect(redeclared).rejects.toThrow(/another shape.*another name/s);
      await expect(bind(exchange, 'spec.unknown', 'key')).rejects.toThrow(/declare/i);
      await expect(transport.consume('spec.unknown', async () => done)).rejects.toThrow(/declare it first/);
      await transport.declare({ exchanges: [{ name: exchange, type: 'topic' }], queues: [{ name: queue }] });
      await transport.send(command(queue));
      expect(await drain(queue)).toEqual([1]);
    });
  });

  describe('consuming', () => {
    it('hands over the message as it was sent', async () => {
      const queue = await declareQueue();
      const message = command(queue, { subject: 'user-1', replyTo: { address: 'a', subject: 's' } });
      const deliveries: Delivery[] = [];
      await transport.consume(queue, async (delivery) => {
        deliveries.push(delivery);
        return done;
      });
      await transport.send(message);
      await eventually(() => deliveries.length > 0, 'it was delivered');
      expect(deliveries).toEqual([{ message, attempt: 1, redelivered: false, origin: queue }]);
    });

    it('with prefetch 1 gives the next message to whoever is free', async () => {
      const queue = await declareQueue();
      const slow = gate();
      const bySlow: number[] = [];
      const byFast: number[] = [];
      await transport.consume(
        queue,
        async ({ message }) => {
          bySlow.push(numberOf(message));
          await slow.opened;
          return done;
        },
        { prefetch: 1 },
      );
      await transport.send(command(queue, { data: { n: 0 } }));
      await eventually(() => bySlow.length === 1, 'the slow worker is busy');
      await (
        await connect()
      ).consume(
        queue,
        async ({ message }) => {
          byFast.push(numberOf(message));
          return done;
        },
        { prefetch: 1 },
      );
      for (let n = 1; n <= 20; n++) await transport.send(command(queue, { data: { n } }));
      await eventually(() => byFast.length === 20, 'the fast worker did the rest');
      expect(bySlow).toEqual([0]);
      slow.open();
    });

    it('handles up to prefetch deliveries at the same time, and no more', async () => {
      const queue = await declareQueue();
      const work = gate();
      let [running, most, handled] = [0, 0, 0];
      const consumer = await transport.consume(
        queue,
        async () => {
          running += 1;
          most = Math.max(most, running);
          await work.opened;
          await new Promise((resolve) => setImmediate(resolve));
          running -= 1;
          handled += 1;
          return done;
        },
        { prefetch: 3 },
      );
      for (let n = 0; n < 12; n++) await transport.send(command(queue, { data: { n } }));
      await eventually(() => consumer.inFlight === 3, 'three handlers run');
      work.open();
      await eventually(() => handled === 12, 'all were handled');
      expect(most).toBe(3);
      await eventually(() => consumer.inFlight === 0, 'nothing is in flight');
    });

    it('acknowledges only after the handler has finished: an abandoned delivery comes again', async () => {
      const queue = await declareQueue();
      const never = gate();
      const stuck = await (await connect()).consume(queue, () => never.opened.then(() => done));
      await transport.send(command(queue));
      await eventually(() => stuck.inFlight === 1, 'the first consumer has it');
      await stuck.close(0);
      const deliveries: Delivery[] = [];
      const second = await transport.consume(queue, async (delivery) => {
        deliveries.push(delivery);
        return done;
      });
      await eventually(() => deliveries.length === 1, 'the second consumer has it');
      expect(deliveries[0]).toMatchObject({ redelivered: true, attempt: 1 });
      never.open();
      await second.close();
      expect(await drain(queue)).toEqual([]);
    });

    it('drains on close: the handler in flight finishes and is acknowledged', async () => {
      const queue = await declareQueue();
      const work = gate();
      const consumer = await transport.consume(queue, () => work.opened.then(() => done), { prefetch: 1 });
      await transport.send(command(queue, { data: { n: 1 } }));
      await transport.send(command(queue, { data: { n: 2 } }));
      await eventually(() => consumer.inFlight === 1, 'one handler runs');
      expect(consumer.attached).toBe(true);
      const closing = consumer.close();
      expect(consumer.attached).toBe(false);
      expect(consumer.close()).toBe(closing);
      work.open();
      await closing;
      expect(consumer.inFlight).toBe(0);
      expect(await drain(queue)).toEqual([2]);
    });
  });

  describe('outcomes', () => {
    /** Consumes with a handler that answers each attempt; resolves to the deliveries it saw. */
    async function consumeWith(queue: string, answer: (delivery: Delivery) => Outcome): Promise<Delivery[]> {
      const deliveries: Delivery[] = [];
      await transport.consume(
        queue,
        async (delivery) => {
          deliveries.push(delivery);
          return answer(delivery);
        },
        { prefetch: 1 },
      );
      return deliveries;
    }

    it('retry(0) sends it to the back of the queue with the attempt counted', async () => {
      const queue = await declareQueue();
      for (const n of [1, 2, 3]) await transport.send(command(queue, { data: { n } }));
      const deliveries = await consumeWith(queue, ({ message, attempt }) =>
        numberOf(message) === 1 && attempt < 3 ? retry(0, 'again') : done,
      );
      await eventually(() => deliveries.length === 5, 'all attempts were made');
      expect(deliveries.map(({ message, attempt }) => [numberOf(message), attempt])).toEqual([
        [1, 1],
        [2, 1],
        [3, 1],
        [1, 2],
        [1, 3],
      ]);
    });

    it('retry(after) delivers it not before the delay, while others flow', async () => {
      const queue = await declareQueue();
      queues.push(`${queue}.retry.300`);
      const times: number[] = [];
      const deliveries = await consumeWith(queue, ({ message, attempt }) => {
        if (numberOf(message) === 2) return done;
        times.push(performance.now());
        return attempt < 3 ? retry(295.5, 'later') : done;
      });
      await transport.send(command(queue, { data: { n: 1 } }));
      await eventually(() => deliveries.length === 1, 'the first attempt was made');
      await transport.send(command(queue, { data: { n: 2 } }));
      await eventually(() => deliveries.length === 4, 'all attempts were made');
      expect(deliveries.map(({ message, attempt }) => [numberOf(message), attempt])).toEqual([
        [1, 1],
        [2, 1],
        [1, 2],
        [1, 3],
      ]);
      const [first = 0, second = 0, third = 0] = times;
      expect(second - first).toBeGreaterThanOrEqual(295);
      expect(third - second).toBeGreaterThanOrEqual(295);
    });

    it('a retry survives its consumer and its transport, and comes once', async () => {
      const queue = await declareQueue();
      queues.push(`${queue}.retry.500`);
      const before = await connect();
      let failed = 0;
      await before.consume(queue, async () => {
        failed += 1;
        return retry(500, 'later');
      });
      await transport.send(command(queue, { data: { n: 1 } }));
      await eventually(() => failed === 1, 'the first attempt was made');
      await before.close();
      const deliveries = await consumeWith(queue, () => done);
      await eventually(() => deliveries.length === 1, 'the second attempt was made');
      // As long again: a second copy would have come by now.
      const later = gate();
      const probe = await declareQueue();
      queues.push(`${probe}.retry.500`);
      await transport.consume(probe, async ({ attempt }) => {
        if (attempt === 1) return retry(500, 'a clock');
        later.open();
        return done;
      });
      await transport.send(command(probe));
      await later.opened;
      expect(deliveries.map(({ attempt }) => attempt)).toEqual([2]);
    });

    it('a delay of 30 days is no delay of a moment', async () => {
      const queue = await declareQueue();
      queues.push(`${queue}.retry.2700000000`, `${queue}.retry.100`);
      const deliveries = await consumeWith(queue, ({ message, attempt }) => {
        if (numberOf(message) === 1) return retry(30 * 86_400_000, 'next month');
        return attempt < 3 ? retry(100, 'a clock') : done;
      });
      await transport.send(command(queue, { data: { n: 1 } }));
      await transport.send(command(queue, { data: { n: 2 } }));
      await eventually(() => deliveries.length === 4, 'the other was handled');
      expect(deliveries.map(({ message }) => numberOf(message))).toEqual([1, 2, 2, 2]);
      expect(await drain(queue)).toEqual([]);
    });

    it('dead-letter keeps the message, with the reason', async () => {
      const queue = await declareQueue();
      const message = command(queue, { subject: 'user-1', data: { n: 5 } });
      await transport.send(message);
      const before = Date.now();
      await consumeWith(queue, ({ attempt }) => (attempt === 1 ? retry(0, 'once') : deadLetter('no such user', 'Odd')));
      const { properties, content } = await taken(`${queue}.dead-letter`);
      expect(content.toString()).toBe('{"n":5}');
      expect(properties).toMatchObject({ messageId: message.id, type: queue, deliveryMode: 2 });
      expect(properties.headers).toMatchObject({
        subject: 'user-1',
        time: message.time,
        [deadLetterHeaders.reason]: 'no such user',
        [deadLetterHeaders.errorType]: 'Odd',
        [deadLetterHeaders.origin]: queue,
        [deadLetterHeaders.consumer]: queue,
        [deadLetterHeaders.attempts]: '2',
      });
      const time = properties.headers?.[deadLetterHeaders.time] as string;
      expect(Date.parse(time)).toBeGreaterThanOrEqual(before);
      expect(await drain(queue)).toEqual([]);
    });

    it('a reason of any length fits', async () => {
      const queue = await declareQueue();
      await transport.send(command(queue));
      await consumeWith(queue, () => deadLetter('x'.repeat(200_000)));
      const { properties } = await taken(`${queue}.dead-letter`);
      expect(String(properties.headers?.[deadLetterHeaders.reason])).toMatch(/^x{1000,}$/);
    });

    it('a dead letter is a message like any other', async () => {
      const queue = await declareQueue();
      const message = command(queue);
      await transport.send(message);
      await consumeWith(queue, () => deadLetter('no'));
      const deliveries = await consumeWith(`${queue}.dead-letter`, () => done);
      await eventually(() => deliveries.length === 1, 'it was delivered');
      expect(deliveries[0]).toMatchObject({ message, attempt: 1 });
    });

    it('hands over dead letters with their reason, and what the broker or somebody else put there', async () => {
      const queue = await declareQueue();
      const [message, garbage] = [command(queue, { subject: 'user-1' }), Buffer.from([0xff])];
      await consumeWith(queue, ({ attempt }) => (attempt === 1 ? retry(0, 'once') : deadLetter('no such user', 'Odd')));
      await transport.send(message);
      await broker.put(queue, { messageId: 'x' }, garbage);
      const dropped = command(queue);
      const death = { queue, reason: 'maxlen', time: { '!': 'timestamp', value: 1_700_000_000 }, count: 1 };
      await broker.put(
        `${queue}.dead-letter`,
        { messageId: dropped.id, type: dropped.type, headers: { 'x-death': [death] } },
        Buffer.from('{}'),
      );
      const letters: DeadLetterDelivery[] = [];
      const consumer = await transport.consumeDeadLetters(queue, async (letter) => void letters.push(letter));
      await eventually(() => letters.length === 3, 'all were handed over');
      const of = (id: string) => letters.find((letter) => letter.message?.id === id);
      expect(of(message.id)).toMatchObject({
        ...{ message, reason: 'no such user', errorType: 'Odd', origin: queue, attempts: 2 },
        raw: { headers: { messageId: message.id, headers: { subject: 'user-1' } } },
      });
      expect(of(dropped.id)).toMatchObject({ errorType: 'GivenUpByBroker', origin: queue, attempts: 0 });
      const bytes = letters.find((letter) => !letter.message);
      expect(bytes).toMatchObject({ errorType: 'UndecodableError', raw: { content: garbage } });
      expect(JSON.stringify(letters.map(({ raw }) => raw.headers))).not.toContain('x-dead-letter');
      await consumer.close();
      expect(await broker.take(`${queue}.dead-letter`)).toBeUndefined();
    });

    it('hands a dead letter over again that was not taken', async () => {
      const queue = await declareQueue();
      const message = command(queue);
      await transport.send(message);
      await consumeWith(queue, () => deadLetter('no'));
      const seen: (string | undefined)[] = [];
      const consumer = await transport.consumeDeadLetters(queue, async (letter) => {
        seen.push(letter.message?.id);
        if (seen.length === 1) throw new Error('the database is away');
      });
      await eventually(() => seen.length === 2, 'it came again');
      expect(seen).toEqual([message.id, message.id]);
      await consumer.close();
      expect(await broker.take(`${queue}.dead-letter`)).toBeUndefined();
    });

    it('carries how often a command was redriven, through retries as well', async () => {
      const queue = await declareQueue();
      const deliveries = await consumeWith(queue, ({ attempt }) => (attempt === 1 ? retry(0, 'once') : done));
      const message = { ...command(queue), redrives: 2 };
      await transport.send(message, { exchange: '', routingKey: queue });
      await eventually(() => deliveries.length === 2, 'it was retried');
      expect(deliveries.map((delivery) => delivery.message)).toEqual([message, message]);
    });

    it('a delivery whose outcome cannot be published is not lost', async () => {
      const queue = await declareQueue();
      const deliveries = await consumeWith(queue, ({ redelivered }) => (redelivered ? done : deadLetter('no')));
      await broker.remove([`${queue}.dead-letter`], []);
      await transport.send(command(queue));
      await eventually(() => deliveries.length === 2, 'it came back');
      expect(deliveries[1]).toMatchObject({ redelivered: true, attempt: 1 });
    });

    it('discard takes it away', async () => {
      const queue = await declareQueue();
      await transport.send(command(queue, { data: { n: 1 } }));
      await transport.send(command(queue, { data: { n: 2 } }));
      const deliveries = await consumeWith(queue, () => discard('unwanted'));
      await eventually(() => deliveries.length === 2, 'both were delivered');
      await transport.close();
      expect([await drain(queue), await drain(`${queue}.dead-letter`)]).toEqual([[], []]);
    });

    it('a handler that throws gets the message again a second later, and harms nothing else', async () => {
      const queue = await declareQueue();
      queues.push(`${queue}.retry.1000`);
      const deliveries = await consumeWith(queue, ({ message, attempt }) => {
        if (numberOf(message) === 1 && attempt === 1) throw new Error('a defect');
        return done;
      });
      await transport.send(command(queue, { data: { n: 1 } }));
      await transport.send(command(queue, { data: { n: 2 } }));
      await eventually(() => deliveries.length === 3, 'it was tried again');
      expect(deliveries.map(({ message, attempt }) => [numberOf(message), attempt])).toEqual([
        [1, 1],
        [2, 1],
        [1, 2],
      ]);
      expect(transport.connected).toBe(true);
    });
  });

  describe('messages of other clients', () => {
    const json = Buffer.from('{"n":1}');

    it('needs only an id, a type and JSON', async () => {
      const queue = await declareQueue();
      const deliveries: Delivery[] = [];
      await transport.consume(queue, async (delivery) => {
        deliveries.push(delivery);
        return done;
      });
      await broker.put(queue, { messageId: 'id-1', type: 'user.register', timestamp: 1_700_000_000 }, json);
      await eventually(() => deliveries.length === 1, 'it was delivered');
      expect(deliveries[0]).toEqual({
        attempt: 1,
        redelivered: false,
        origin: queue,
        message: {
          id: 'id-1',
          type: 'user.register',
          version: 1,
          source: 'unknown',
          time: '2023-11-14T22:13:20.000Z',
          correlationId: 'id-1',
          data: { n: 1 },
        },
      });
    });

    it.each<[string, AmqpProperties, Buffer]>([
      ['a body that is not JSON', { messageId: 'id', type: 'any' }, Buffer.from('{"n":')],
      ['a body that is not text', { messageId: 'id', type: 'any' }, Buffer.from([0xff, 0x00, 0xfe])],
      ['an empty body', { messageId: 'id', type: 'any' }, Buffer.alloc(0)],
      ['no id', { type: 'any' }, json],
      ['no type', { messageId: 'id' }, json],
      ['a header of another type', { messageId: 'id', type: 'any', headers: { version: 'one' } }, json],
    ])(
      'with %s becomes a dead letter at once, its bytes kept, and the next one is handled',
      async (_, properties, content) => {
        const queue = await declareQueue();
        const handled: string[] = [];
        await transport.consume(queue, async ({ message }) => {
          handled.push(message.id);
          return done;
        });
        await broker.put(queue, properties, content);
        await broker.put(queue, { messageId: 'next', type: 'any' }, json);
        const letter = await taken(`${queue}.dead-letter`);
        expect(letter.content.equals(content)).toBe(true);
        expect(letter.properties.headers).toMatchObject({
          ...properties.headers,
          [deadLetterHeaders.errorType]: 'UndecodableError',
          [deadLetterHeaders.origin]: queue,
        });
        await eventually(() => handled.length > 0, 'the next one was handled');
        expect(handled).toEqual(['next']);
      },
    );
  });

  describe('when the broker crashes', () => {
    let crashing: CrashingBroker;
    let outer: TestBroker;

    beforeAll(async () => {
      crashing = await adapter.openCrashing();
    }, 120_000);
    afterAll(() => crashing.close(), 60_000);
    beforeEach(async () => {
      outer = broker;
      broker = crashing;
      transport = await connect();
    });
    afterEach(async () => {
      await Promise.all(opened.map((one) => one.close()));
      await crashing.remove(queues, exchanges);
      [opened, queues, exchanges] = [[], [], []];
      broker = outer;
    });

    it('keeps what it confirmed', async () => {
      const queue = await declareQueue();
      for (const n of [1, 2, 3]) await transport.send(command(queue, { data: { n } }));
      await crashing.crash();
      await eventually(() => !transport.connected, 'the loss was noticed');
      await crashing.restart();
      await eventually(() => transport.connected, 'the transport is connected again');
      const seen: number[] = [];
      await transport.consume(queue, async ({ message }) => {
        seen.push(numberOf(message));
        return done;
      });
      await eventually(() => seen.length === 3, 'all were delivered');
      expect(seen).toEqual([1, 2, 3]);
    }, 120_000);

    it('attaches its consumers again, delivers what was unsettled once more and ignores the late outcome', async () => {
      const queue = await declareQueue();
      const work = gate();
      const deliveries: Delivery[] = [];
      const consumer = await transport.consume(queue, async (delivery) => {
        deliveries.push(delivery);
        if (deliveries.length === 1) {
          await work.opened;
          return deadLetter('decided after the connection was lost');
        }
        return done;
      });
      await transport.send(command(queue, { data: { n: 1 } }));
      await eventually(() => deliveries.length === 1, 'the handler runs');
      await crashing.crash();
      await eventually(() => !consumer.attached && !transport.connected, 'the loss was noticed');
      await crashing.restart();
      await eventually(() => consumer.attached && transport.connected, 'everything is back');
      await eventually(() => deliveries.length === 2, 'it was delivered again');
      expect(deliveries[1]).toMatchObject({ redelivered: true, attempt: 1 });
      work.open();
      await transport.send(command(queue, { data: { n: 2 } }));
      await eventually(() => deliveries.length === 3, 'sends and deliveries work again');
      await eventually(() => consumer.inFlight === 0, 'the late handler has finished');
      await consumer.close();
      expect([await drain(queue), await drain(`${queue}.dead-letter`)]).toEqual([[], []]);
    }, 120_000);

    it('lets a send wait for its return, but not for ever', async () => {
      const queue = await declareQueue();
      const impatient = await crashing.connect(200);
      opened.push(impatient);
      const patient = await crashing.connect(60_000);
      opened.push(patient);
      await crashing.crash();
      await eventually(() => !patient.connected && !impatient.connected, 'the loss was noticed');
      const sent = patient.send(command(queue, { data: { n: 1 } }));
      const failed = impatient.send(command(queue, { data: { n: 2 } }));
      await expect(failed).rejects.toBeInstanceOf(NotConfirmedError);
      await expect(failed).rejects.toThrow(/again/);
      await crashing.restart();
      await sent;
      expect(await drain(queue)).toEqual([1]);
    }, 120_000);
  });
});

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Controller, Module } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import kafkajs from 'kafkajs';
import { defer, lastValueFrom, of, throwError } from 'rxjs';
import { TransientError, ValidationError } from '../errors.js';
import { connectKafka } from '../kafka/kafka-event-transport.js';
import { MemoryEventLog } from '../memory/memory-event-log.js';
import { MemoryEventTransport } from '../memory/memory-event-transport.js';
import { createMessage, type Message } from '../message.js';
import { done } from '../outcome.js';
import { deadLetterTopic, type EventTransport, type RecordPosition } from '../transport/event-transport.js';
import { EventClient, type EventPayload } from './event-client.js';
import { EventServer } from './event-server.js';
import type { DeliveryContext } from './delivery-context.js';
import { KeepErrors } from './keep-errors.filter.js';

interface Adapter {
  readonly name: string;
  connect(): Promise<EventTransport>;
  remove(topics: readonly string[]): Promise<void>;
}

const log = new MemoryEventLog();
const memory: Adapter = {
  name: 'memory',
  connect: async () => new MemoryEventTransport(log),
  remove: async () => undefined,
};
const kafka = (brokers: string): Adapter => ({
  name: 'kafka',
  connect: () => connectKafka({ brokers: [brokers], clientId: 'event-server-spec' }),
  remove: async (topics) => {
    const plain = new kafkajs.Kafka({ brokers: [brokers], logLevel: kafkajs.logLevel.NOTHING });
    const admin = plain.admin();
    await admin.connect();
    await admin.deleteTopics({ topics: [...topics] });
    await admin.disconnect();
  },
});
const adapters = process.env['KAFKA_BROKERS'] ? [memory, kafka(process.env['KAFKA_BROKERS'])] : [memory];

/** What the handlers were given, as `handler attempt`, and what they wait for. */
const calls: string[] = [];
let contexts: DeliveryContext[] = [];
let slowHandlers: (() => void)[] = [];

@Controller()
class Handlers {
  @EventPattern<string>('user.registered')
  registered(@Payload() data: { userId: string }, @Ctx() context: DeliveryContext): void {
    calls.push(`registered ${data.userId}`);
    contexts.push(context);
  }

  @EventPattern<string>('user.slow')
  async slow(): Promise<void> {
    calls.push('slow started');
    await new Promise<void>((resolve) => slowHandlers.push(resolve));
  }

  @EventPattern<string>('user.observed')
  observed() {
    return defer(async () => {
      await new Promise<void>((resolve) => slowHandlers.push(resolve));
      calls.push('observed to the end');
    });
  }

  @EventPattern<string>('user.flaky')
  flaky(@Payload() _data: unknown, @Ctx() { attempt }: DeliveryContext) {
    calls.push(`flaky ${attempt}`);
    return attempt < 3 ? throwError(() => new TransientError('the mail server is busy')) : of('sent');
  }

  @EventPattern<string>('user.down')
  down(@Payload() _data: unknown, @Ctx() { attempt }: DeliveryContext): void {
    calls.push(`down ${attempt}`);
    throw new TransientError('the mail server is down');
  }

  @EventPattern<string>('user.invalid')
  invalid(): void {
    calls.push('invalid');
    throw new ValidationError('no e-mail address');
  }

  @EventPattern<string>('user.broken')
  broken(): void {
    calls.push('broken');
    throw new RangeError('a defect');
  }

  @MessagePattern<string>('user.command')
  command(): void {
    calls.push('command');
  }
}

@Controller()
class SecondHandlers {
  @EventPattern<string>('user.registered')
  async registered(): Promise<void> {
    await sleep(1);
    calls.push('registered too');
  }
}

@Module({ controllers: [Handlers, SecondHandlers] })
class TestModule {}

async function until(condition: () => boolean): Promise<void> {
  for (const deadline = Date.now() + 30_000; !condition(); await sleep(10)) {
    if (Date.now() > deadline) throw new Error(`never came true: ${condition.toString()}; calls: ${calls.join(', ')}`);
  }
}

describe.each(adapters)('event server: $name', ({ connect, remove }) => {
  const topic = `event-server-${randomUUID()}`;
  const group = 'spec';
  let transport: EventTransport;
  let client: EventClient;
  let server: EventServer;
  let close: () => Promise<void>;

  const emit = (type: string, subject = 'user-1', data: object = {}): Promise<RecordPosition> =>
    lastValueFrom(client.emit<RecordPosition, EventPayload>(type, { subject, data }));

  beforeAll(async () => {
    transport = await connect();
    await transport.declare([{ name: topic, partitions: 1 }]);
    server = new EventServer({
      transport,
      topics: [topic],
      group,
      failurePolicy: {
        ...{ maxRetries: 3, backoff: { baseMs: 5, maxMs: 20 } },
        classify: (error) => (error instanceof ValidationError ? 'validation' : undefined),
      },
    });
    const app = await NestFactory.createMicroservice(TestModule, { strategy: server, logger: false });
    app.useGlobalFilters(new KeepErrors());
    await app.listen();
    close = () => app.close();
    client = new EventClient({ transport, topic, source: 'spec' });
  });
  beforeEach(() => {
    calls.length = 0;
    contexts = [];
    slowHandlers = [];
  });
  afterAll(async () => {
    await close();
    await transport.close();
    const deadLetters = deadLetterTopic(topic, group);
    await remove([topic, deadLetters, deadLetterTopic(deadLetters, 'reader')]);
  });

  it('gives every handler of a type the data and the envelope', async () => {
    const position = await emit('user.registered', 'user-7', { userId: 'user-7' });
    expect(position).toEqual({ topic, partition: 0, offset: expect.stringMatching(/^\d+$/) });
    await until(() => calls.length === 2);
    expect(calls.sort()).toEqual(['registered too', 'registered user-7']);
    const [context] = contexts;
    expect(context?.message).toMatchObject({ type: 'user.registered', source: 'spec', subject: 'user-7', version: 1 });
    expect(context?.attempt).toBe(1);
    expect(context?.origin).toBe(`${topic}[0]@${position.offset}`);
    expect(server.attached).toBe(true);
  });

  it('waits for promises and observables before it settles', async () => {
    await emit('user.slow');
    await emit('user.observed');
    await until(() => slowHandlers.length === 2);
    expect(server.inFlight).toBe(2);
    slowHandlers.forEach((finish) => finish());
    await until(() => server.inFlight === 0);
    expect(calls).toEqual(['slow started', 'observed to the end']);
  });

  it('retries what is transient', async () => {
    await emit('user.flaky');
    await until(() => calls.length === 3);
    expect(calls).toEqual(['flaky 1', 'flaky 2', 'flaky 3']);
  });

  it('discards what is invalid, and settles what nobody handles', async () => {
    await emit('user.invalid');
    await emit('user.unheard-of');
    await emit('user.command');
    await emit('user.registered', 'user-8', { userId: 'user-8' });
    await until(() => calls.includes('registered user-8'));
    expect(calls.filter((call) => !call.startsWith('registered'))).toEqual(['invalid']);
  });

  it('gives the rest to a human: defects at once, and what outlasts every retry', async () => {
    const deadLetters: Message[] = [];
    // Dead letters are a topic like any other.
    const name = deadLetterTopic(topic, group);
    const reader = await transport.subscribe({ topic: name, group: 'reader' }, async ({ message }) => {
      deadLetters.push(message);
      return done;
    });
    await emit('user.broken');
    await emit('user.down');
    await until(() => deadLetters.length === 2);
    await reader.close();
    expect(deadLetters.map(({ type }) => type)).toEqual(['user.broken', 'user.down']);
    expect(calls.filter((call) => call.startsWith('down'))).toEqual(['down 1', 'down 2', 'down 3', 'down 4']);
    expect(calls.filter((call) => call === 'broken')).toHaveLength(1);
  });

  it('hands over the whole envelope, and refuses what has a reply', async () => {
    const cause = createMessage({ type: 'cause', version: 1, source: 'spec', data: {} });
    const payload: EventPayload = {
      subject: 'a',
      data: { userId: 'a' },
      sequence: 4,
      causationId: cause.id,
      version: 2,
    };
    await lastValueFrom(client.emit('user.registered', payload));
    await until(() => contexts.length === 1);
    expect(contexts[0]?.message).toMatchObject({ sequence: 4, causationId: cause.id, version: 2 });
    await expect(lastValueFrom(client.send('user.registered', payload))).rejects.toThrow('events have no reply');
  });

  it('reports to its caller what could not be published', async () => {
    const lost = new EventClient({ transport, topic: 'no-such-topic', source: 'spec' });
    const emitted = lost.emit('user.registered', { subject: 'a', data: {} });
    await expect(lastValueFrom(emitted)).rejects.toThrow('does not exist');
  });
});

it('can tell failures apart only with KeepErrors, and says so', async () => {
  const transport = new MemoryEventTransport();
  const warnings: string[] = [];
  await transport.declare([{ name: 'users', partitions: 1 }]);
  const server = new EventServer({ transport, topics: ['users'], group: 'g' });
  const logger = { log: () => undefined, error: () => undefined, warn: (text: string) => warnings.push(text) };
  const app = await NestFactory.createMicroservice(TestModule, { strategy: server, logger });
  await app.listen();
  const client = new EventClient({ transport, topic: 'users', source: 'spec' });
  await lastValueFrom(client.emit<RecordPosition, EventPayload>('user.invalid', { subject: 'a', data: {} }));
  await until(() => warnings.some((text) => text.includes('KeepErrors')));
  await app.close();
});

it('starts before the owner of its topic, and is attached when that has declared it', async () => {
  const transport = new MemoryEventTransport();
  const server = new EventServer({ transport, topics: ['users'], group: 'g' });
  const app = await NestFactory.createMicroservice(TestModule, { strategy: server, logger: false });
  await app.listen();
  expect(server.attached).toBe(false);
  await transport.declare([{ name: 'users', partitions: 2 }]);
  await until(() => server.attached);
  await app.close();
});

import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Controller, Module, type INestMicroservice } from '@nestjs/common';
import { NestFactory } from '@nestjs/core';
import { Ctx, EventPattern, MessagePattern, Payload } from '@nestjs/microservices';
import { connect as connectAmqp } from 'amqplib';
import { concat, defer, lastValueFrom, of, throwError } from 'rxjs';
import { TerminalError, TimeoutError, TransientError, UnroutableError, ValidationError } from '../errors.js';
import { MemoryCommandBroker } from '../memory/memory-command-broker.js';
import { MemoryCommandTransport } from '../memory/memory-command-transport.js';
import { createMessage, type Message } from '../message.js';
import { done } from '../outcome.js';
import type { AmqpProperties } from '../rabbitmq/amqp-envelope.js';
import { connectRabbitMq } from '../rabbitmq/rabbitmq-command-transport.js';
import type { CommandTransport } from '../transport/command-transport.js';
import { deadLetterHeaders } from '../transport/delivery.js';
import { CommandClient, type CommandPayload } from './command-client.js';
import { CommandServer } from './command-server.js';
import type { DeliveryContext } from './delivery-context.js';
import { KeepErrors } from './keep-errors.filter.js';

interface Adapter {
  readonly name: string;
  connect(): Promise<CommandTransport>;
  /** Headers of the next dead letter of the queue, if there is one. */
  takeDeadLetter(queue: string): Promise<AmqpProperties['headers'] | undefined>;
  remove(queues: readonly string[]): Promise<void>;
}

const broker = new MemoryCommandBroker();
const memory: Adapter = {
  name: 'memory',
  connect: async () => new MemoryCommandTransport(broker),
  takeDeadLetter: async (queue) => broker.queue(`${queue}.dead-letter`).pull()?.properties.headers,
  remove: async (queues) => queues.forEach((queue) => broker.deleteQueue(queue)),
};

const rabbitMq = (url: string): Adapter => ({
  name: 'rabbitmq',
  connect: () => connectRabbitMq({ url }),
  takeDeadLetter: async (queue) => {
    const connection = await connectAmqp(url);
    const letter = await (await connection.createChannel()).get(`${queue}.dead-letter`, { noAck: true });
    await connection.close();
    return letter ? letter.properties.headers : undefined;
  },
  remove: async (queues) => {
    const connection = await connectAmqp(url);
    const channel = await connection.createChannel();
    for (const queue of queues) {
      for (const name of [
        queue,
        `${queue}.dead-letter`,
        `${queue}.retry.10`,
        `${queue}.retry.20`,
        `${queue}.retry.40`,
      ]) {
        await channel.deleteQueue(name);
      }
    }
    await connection.close();
  },
});

const url = process.env['RABBITMQ_URL'];

/** What the handlers were given, as `handler attempt`. */
const calls: string[] = [];
let contexts: DeliveryContext[] = [];
let slowHandlers: (() => void)[] = [];

/** Unlike the names of queues these are bound anew by every run, but only the run's own queue handles them. */
const run = randomUUID();
const typeOf = (name: string): string => `spec.${name}.${run}`;

@Controller()
class Handlers {
  @MessagePattern<string>(typeOf('greet'))
  greet(@Payload() { name }: { name: string }, @Ctx() context: DeliveryContext): { greeting: string } {
    contexts.push(context);
    return { greeting: `Hello ${name}` };
  }

  @MessagePattern<string>(typeOf('observe'))
  observe() {
    return concat(
      of('first'),
      defer(async () => {
        await new Promise<void>((resolve) => slowHandlers.push(resolve));
        calls.push('observed to the end');
        return 'last';
      }),
    );
  }

  @EventPattern<string>(typeOf('slow'))
  async slow(): Promise<void> {
    await new Promise<void>((resolve) => slowHandlers.push(resolve));
    calls.push('slow ended');
  }

  @EventPattern<string>(typeOf('flaky'))
  flaky(@Payload() _data: unknown, @Ctx() { attempt }: DeliveryContext) {
    calls.push(`flaky ${attempt}`);
    return attempt < 3 ? throwError(() => new TransientError('busy')) : of('sent');
  }

  @EventPattern<string>(typeOf('down'))
  async down(@Payload() _data: unknown, @Ctx() { attempt }: DeliveryContext): Promise<void> {
    calls.push(`down ${attempt}`);
    throw new TransientError('the mail server is down');
  }

  @MessagePattern<string>(typeOf('invalid'))
  invalid(): void {
    throw new ValidationError('no e-mail address');
  }

  @MessagePattern<string>(typeOf('broken'))
  broken(): void {
    throw new RangeError('a defect');
  }
}

/** These handlers check their messages themselves. */
const whatIsInvalid = (error: unknown) => (error instanceof ValidationError ? 'validation' : undefined);

@Module({ controllers: [Handlers] })
class TestModule {}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  for (const deadline = Date.now() + 30_000; !(await condition()); await sleep(10)) {
    if (Date.now() > deadline) throw new Error(`Waited in vain until ${what}; calls: ${calls.join(', ')}`);
  }
}

describe.each([memory, ...(url ? [rabbitMq(url)] : [])])(
  'command server: $name',
  ({ connect, takeDeadLetter, remove }) => {
    const [queue, replyQueue] = [`spec.commands.${randomUUID()}`, `spec.replies.${randomUUID()}`];
    let transport: CommandTransport;
    let server: CommandServer;
    let app: INestMicroservice;
    let client: CommandClient;

    beforeAll(async () => {
      transport = await connect();
      const failurePolicy = { maxRetries: 3, backoff: { baseMs: 10, jitter: 0 }, classify: whatIsInvalid };
      server = new CommandServer({ transport, queue, failurePolicy });
      app = await NestFactory.createMicroservice(TestModule, { strategy: server, logger: false });
      app.useGlobalFilters(new KeepErrors());
      await app.listen();
      client = new CommandClient({ transport, source: 'spec', replyQueue, replyTimeoutMs: 30_000 });
    });
    afterAll(async () => {
      await client.close();
      await app.close();
      await transport.close();
      await remove([queue, replyQueue]);
    });
    beforeEach(() => {
      calls.length = 0;
      [contexts, slowHandlers] = [[], []];
    });

    const emit = (name: string, data: unknown = {}): Promise<void> =>
      lastValueFrom(client.emit<void, CommandPayload>(typeOf(name), { data }));
    const send = (name: string, data: unknown = {}): Promise<unknown> =>
      lastValueFrom(client.send<unknown, CommandPayload>(typeOf(name), { data }));

    async function deadLetterReason(): Promise<[unknown, unknown]> {
      let headers: AmqpProperties['headers'];
      await until(async () => (headers = await takeDeadLetter(queue)) !== undefined, 'there is a dead letter');
      return [headers?.[deadLetterHeaders.errorType], headers?.[deadLetterHeaders.reason]];
    }

    it('answers a request with the return value of its handler, which sees the envelope', async () => {
      expect(await send('greet', { name: 'Ada' })).toEqual({ greeting: 'Hello Ada' });
      expect(contexts[0]?.message).toMatchObject({ type: typeOf('greet'), source: 'spec', data: { name: 'Ada' } });
      expect(contexts[0]).toMatchObject({ attempt: 1, origin: queue });
    });

    it('answers many requests at the same time', async () => {
      const names = Array.from({ length: 50 }, (_, n) => `n${n}`);
      const answers = await Promise.all(names.map((name) => send('greet', { name })));
      expect(answers).toEqual(names.map((name) => ({ greeting: `Hello ${name}` })));
    });

    it('sends the reply to the address that any sender gives, with the subject it gives', async () => {
      const address = `spec.workflow.${randomUUID()}`;
      await transport.declare({
        queues: [{ name: address }],
        bindings: [{ exchange: 'commands', queue: address, routingKey: address }],
      });
      const replies: Message[] = [];
      const consumer = await transport.consume(address, async ({ message }) => {
        replies.push(message);
        return done;
      });
      const fields = { version: 1, source: 'orchestrator', replyTo: { address, subject: 'workflow-1' } };
      const request = createMessage({ ...fields, type: typeOf('greet'), data: { name: 'Ada' } });
      const broken = createMessage({ ...fields, type: typeOf('broken'), data: {} });
      await transport.send(request);
      await until(() => replies.length === 1, 'the reply came');
      expect(replies[0]).toMatchObject({
        type: 'command.succeeded',
        subject: 'workflow-1',
        correlationId: request.correlationId,
        causationId: request.id,
        data: { requestId: request.id, result: { greeting: 'Hello Ada' } },
      });
      await transport.send(broken);
      await until(() => replies.length === 2, 'the failure was told');
      expect(replies[1]).toMatchObject({ type: 'command.failed', causationId: broken.id, subject: 'workflow-1' });
      expect(await deadLetterReason()).toEqual(['RangeError', 'RangeError: a defect']);
      await consumer.close();
      await remove([address]);
    });

    it('completes an observable before it answers', async () => {
      const answer = send('observe');
      await until(() => slowHandlers.length === 1, 'the handler runs');
      expect(server.inFlight).toBe(1);
      slowHandlers[0]?.();
      expect(await answer).toBe('last');
      expect(calls).toEqual(['observed to the end']);
    });

    it('retries a transient failure, then succeeds', async () => {
      await emit('flaky');
      await until(() => calls.includes('flaky 3'), 'the third attempt was made');
      await until(() => server.inFlight === 0, 'it was settled');
      expect(calls).toEqual(['flaky 1', 'flaky 2', 'flaky 3']);
      expect(await takeDeadLetter(queue)).toBeUndefined();
    });

    it('gives up after three retries', async () => {
      await emit('down');
      expect(await deadLetterReason()).toEqual([
        'RetriesExhausted',
        'still failing after 4 attempts: TransientError: the mail server is down',
      ]);
      expect(calls).toEqual(['down 1', 'down 2', 'down 3', 'down 4']);
    });

    it('discards an invalid command and tells the sender', async () => {
      await expect(send('invalid')).rejects.toThrow(/no e-mail address/);
      await until(() => server.inFlight === 0, 'it was settled');
      expect(await takeDeadLetter(queue)).toBeUndefined();
    });

    it('keeps a command whose handler is broken for a human, tells the sender and goes on', async () => {
      await expect(send('broken')).rejects.toThrow(TerminalError);
      expect(await deadLetterReason()).toEqual(['RangeError', 'RangeError: a defect']);
      expect(await send('greet', { name: 'Ada' })).toEqual({ greeting: 'Hello Ada' });
    });

    it('keeps a command that it does not know for a human', async () => {
      const unknown = createMessage({ type: 'spec.unknown', version: 1, source: 'spec', data: {} });
      await transport.send(unknown, { exchange: '', routingKey: queue });
      const [errorType, reason] = await deadLetterReason();
      expect(errorType).toBe('UnknownType');
      expect(reason).toContain(`no handler for spec.unknown; it handles: ${typeOf('greet')}`);
    });

    it('rejects a command that nobody handles', async () => {
      await expect(emit('nobody')).rejects.toThrow(UnroutableError);
      await expect(send('nobody')).rejects.toThrow(UnroutableError);
    });

    it('fails a request without a reply in time, and keeps the late reply', async () => {
      const hasty = new CommandClient({ transport, source: 'spec', replyQueue, replyTimeoutMs: 20 });
      const answer = lastValueFrom(hasty.send<unknown, CommandPayload>(typeOf('observe'), { data: {} }));
      await expect(answer).rejects.toThrow(TimeoutError);
      await hasty.close();
      await until(() => slowHandlers.length === 1, 'the handler runs');
      slowHandlers[0]?.();
      await until(async () => (await takeDeadLetter(replyQueue)) !== undefined, 'the late reply is a dead letter');
    });

    it('asks for a queue when it has none for replies', async () => {
      const mute = new CommandClient({ transport, source: 'spec' });
      await expect(lastValueFrom(mute.send(typeOf('greet'), { data: {} }))).rejects.toThrow(/give .* a replyQueue/);
    });

    it('waits on close for the handler in flight', async () => {
      const own = { transport: await connect(), queue: `spec.commands.${randomUUID()}` };
      const second = new CommandServer(own);
      const secondApp = await NestFactory.createMicroservice(TestModule, { strategy: second, logger: false });
      await secondApp.listen();
      const slow = createMessage({ type: typeOf('slow'), version: 1, source: 'spec', data: {} });
      await own.transport.send(slow, { exchange: '', routingKey: own.queue });
      await until(() => second.inFlight === 1, 'the handler runs');
      expect(second.attached).toBe(true);
      const closing = secondApp.close();
      await until(() => !second.attached, 'it takes no more');
      slowHandlers[0]?.();
      await closing;
      expect(calls).toEqual(['slow ended']);
      expect(second.inFlight).toBe(0);
      await own.transport.close();
      await remove([own.queue]);
    });
  },
);

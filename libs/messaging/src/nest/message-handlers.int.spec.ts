import {
  type ArgumentsHost,
  type CallHandler,
  type CanActivate,
  Catch,
  Controller,
  type ExecutionContext,
  type ExceptionFilter,
  Inject,
  Injectable,
  Module,
  type NestInterceptor,
  ParseIntPipe,
  Scope,
  UseFilters,
  UseGuards,
  UseInterceptors,
} from '@nestjs/common';
import { NestFactory, REQUEST } from '@nestjs/core';
import { Ctx, Payload } from '@nestjs/microservices';
import { FastifyAdapter } from '@nestjs/platform-fastify';
import { eventually, openTestDataSource, uniqueName, type TestDataSource } from '@starter/testing';
import { connect as connectAmqp } from 'amqplib';
import kafkajs from 'kafkajs';
import { catchError, map, of, throwError, type Observable } from 'rxjs';
import { DataSource } from 'typeorm';
import { z } from 'zod';
import type { Received } from '../consumer/dispatcher.js';
import { CreateMessagingTables1760000000001 } from '../database/create-messaging-tables.migration.js';
import { inTransaction, type Statement } from '../database/transaction.js';
import type { MessageDefinition } from '../definition.js';
import { TransientError } from '../errors.js';
import { admitOnce } from '../inbox/inbox.js';
import { connectKafka } from '../kafka/kafka-event-transport.js';
import { MemoryCommandTransport } from '../memory/memory-command-transport.js';
import { MemoryEventTransport } from '../memory/memory-event-transport.js';
import { createMessage, type Message, type MessageFields } from '../message.js';
import { Messaging } from '../messaging.js';
import { deadLetter, doneAs, retry, type Outcome } from '../outcome.js';
import { connectRabbitMq } from '../rabbitmq/rabbitmq-command-transport.js';
import type { CommandTransport } from '../transport/command-transport.js';
import { deadLetterTopic, type EventTransport } from '../transport/event-transport.js';
import { connectMessaging } from './connect-messaging.js';
import { MessagingModule } from './messaging.module.js';
import { OnCommand } from './on-command.js';
import { OnEvent, type ReceivedInSequence, type ReceivedTogether } from './on-event.js';

interface Adapter {
  readonly name: string;
  connect(): Promise<{ readonly commands: CommandTransport; readonly events: EventTransport }>;
  remove(queues: readonly string[], topics: readonly string[]): Promise<void>;
}
const memory: Adapter = {
  name: 'memory',
  connect: async () => ({ commands: new MemoryCommandTransport(), events: new MemoryEventTransport() }),
  remove: async () => undefined,
};
const real = (url: string, list: string): Adapter => {
  const brokers = list.split(',');
  return {
    name: 'RabbitMQ and Kafka',
    connect: async () => ({
      commands: await connectRabbitMq({ url }),
      events: await connectKafka({ brokers, clientId: 'spec' }),
    }),
    remove: async (queues, topics) => {
      const connection = await connectAmqp(url);
      const channel = await connection.createChannel();
      for (const queue of queues) await channel.deleteQueue(queue);
      await connection.close();
      const admin = new kafkajs.Kafka({ brokers, logLevel: kafkajs.logLevel.NOTHING }).admin();
      await admin.connect();
      const existing = await admin.listTopics();
      await admin.deleteTopics({ topics: topics.filter((topic) => existing.includes(topic)) });
      await admin.disconnect();
    },
  };
};
const { RABBITMQ_URL, KAFKA_BROKERS } = process.env;
const adapters = RABBITMQ_URL && KAFKA_BROKERS ? [memory, real(RABBITMQ_URL, KAFKA_BROKERS)] : [memory];

const service = uniqueName('spec');
const schema = z.strictObject({ n: z.int() });
const command = (name: string) =>
  ({ kind: 'command', type: `${service}.${name}`, version: 1, owner: service, schema }) as const;
const event = (name: string) =>
  ({ kind: 'event', type: `${service}.${name}`, version: 1, owner: service, schema }) as const;

const contracts = {
  Note: command('note'),
  Sync: command('sync'),
  Piped: command('piped'),
  Flaky: command('flaky'),
  Broken: command('broken'),
  Guarded: command('guarded'),
  Decided: command('decided'),
  Odd: command('odd'),
  Wrapped: command('wrapped'),
  Filtered: command('filtered'),
  Translated: command('translated'),
  Scoped: command('scoped'),
  Slow: command('slow'),
  Happened: event('happened'),
  Counted: event('counted'),
  Copied: event('copied'),
};
const { Note, Sync, Piped, Flaky, Broken, Guarded, Decided, Odd, Wrapped, Filtered, Translated, Scoped } = contracts;
const { Slow, Happened, Counted, Copied } = contracts;

/** What the methods were called with. */
let calls: unknown[] = [];
let release: (() => void) | undefined;

class MailboxFull extends Error {}

@Catch(MailboxFull)
class MailboxFullFilter implements ExceptionFilter {
  catch(_: MailboxFull, host: ArgumentsHost): Observable<Outcome> {
    const { attempt } = host.switchToRpc().getContext<Received>();
    return attempt < 2 ? of(retry(1, 'the mailbox is full')) : throwError(() => new RangeError('still full'));
  }
}

/** For HTTP as well: the most general one, registered for the whole application. */
@Catch(RangeError)
class GlobalFilter implements ExceptionFilter {
  catch(error: RangeError): never {
    calls.push(`global filter: ${error.message}`);
    throw error;
  }
}

@Injectable()
class EvenOnly implements CanActivate {
  canActivate(context: ExecutionContext): boolean {
    const rpc = context.switchToRpc();
    const { n } = rpc.getData<{ n: number }>();
    calls.push([context.getType(), context.getHandler().name, n, rpc.getContext<Received>().message.type]);
    if (n > 100) throw new TransientError('the guard cannot say');
    return n % 2 === 0;
  }
}

@Injectable()
class Around implements NestInterceptor {
  intercept(context: ExecutionContext, next: CallHandler): Observable<unknown> {
    const { n } = context.switchToRpc().getData<{ n: number }>();
    calls.push(`before ${n}`);
    if (n === 3) return next.handle().pipe(map(() => 'wrapped'));
    return next.handle().pipe(
      map((outcome: unknown) => {
        calls.push(`after ${n}`);
        return outcome;
      }),
      catchError((error: Error) => throwError(() => new TransientError(`around: ${error.message}`))),
    );
  }
}

@Injectable()
class ToOther extends ParseIntPipe {
  override async transform(value: never): Promise<never> {
    const { n } = value as { n: number };
    return { n: await super.transform(String(n * 10), { type: 'body' }) } as never;
  }
}

const note: Statement = { name: 'note', text: 'INSERT INTO note (kind, n) VALUES ($1, $2)' };

const fast = { failurePolicy: { maxRetries: 2, backoff: { baseMs: 5, jitter: 0 } } };

@Controller()
class Commands {
  constructor(
    @Inject(Messaging) private readonly messaging: Messaging,
    @Inject(DataSource) private readonly dataSource: DataSource,
  ) {}

  @OnCommand(Note)
  async note({ data, message, attempt, fence }: Received<typeof Note>): Promise<Outcome> {
    calls.push(['note', data.n, message.id, attempt]);
    return inTransaction(
      this.dataSource,
      async (tx) => {
        const [first] = await admitOnce(tx, [{ consumer: this.messaging.commands.queue, messageId: message.id }]);
        if (!first) return doneAs.duplicates;
        await tx.query(note, ['command', data.n]);
        return doneAs.handled;
      },
      fence,
    );
  }

  @OnCommand(Sync)
  sync({ data }: Received<typeof Sync>): void {
    calls.push(['sync', data.n]);
  }

  @OnCommand(Piped)
  async piped(@Payload(ToOther) { n }: { n: number }, @Ctx() { message }: Received<typeof Piped>): Promise<void> {
    calls.push(['piped', n, message.data]);
  }

  @OnCommand(Flaky, fast)
  async flaky({ attempt }: Received<typeof Flaky>): Promise<void> {
    calls.push(`flaky ${attempt}`);
    if (attempt < 3) throw new TransientError('busy');
  }

  @OnCommand(Broken, fast)
  broken(): void {
    throw new SyntaxError('a defect');
  }

  @OnCommand(Guarded, fast)
  @UseGuards(EvenOnly)
  async guarded({ data }: Received<typeof Guarded>): Promise<void> {
    calls.push(['guarded', data.n]);
  }

  @OnCommand(Decided)
  async decided({ attempt }: Received<typeof Decided>): Promise<Outcome> {
    calls.push(`decided ${attempt}`);
    return attempt === 1 ? retry(1, 'once more') : deadLetter('for a human', 'Decided');
  }

  // A value that the compiler refuses.
  @OnCommand(Odd)
  async odd(): Promise<void> {
    return 'fine' as unknown as undefined;
  }

  @OnCommand(Wrapped, fast)
  @UseInterceptors(Around)
  async wrapped({ data, attempt }: Received<typeof Wrapped>): Promise<Outcome | void> {
    calls.push(`wrapped ${data.n} ${attempt}`);
    if (data.n === 2 && attempt < 2) throw new SyntaxError('only the interceptor knows that it passes');
    return doneAs.handled;
  }

  @OnCommand(Filtered, fast)
  @UseFilters(MailboxFullFilter)
  async filtered({ attempt }: Received<typeof Filtered>): Promise<void> {
    calls.push(`filtered ${attempt}`);
    throw new MailboxFull();
  }

  @OnCommand(Translated, fast)
  async translated(): Promise<void> {
    throw new RangeError('seen by the global filter');
  }

  @OnCommand(Slow)
  async slow(): Promise<void> {
    await new Promise<void>((resolve) => (release = resolve));
    calls.push('slow ended');
  }
}

let instances = 0;

@Controller({ scope: Scope.REQUEST })
class ScopedCommands {
  private readonly instance = (instances += 1);

  constructor(@Inject(REQUEST) private readonly request: { getContext(): Received; getData(): unknown }) {}

  @OnCommand(Scoped, fast)
  async scoped({ data, message, attempt }: Received<typeof Scoped>): Promise<void> {
    calls.push(['scoped', this.instance, this.request.getContext().message === message, this.request.getData()]);
    if (data.n === 2 && attempt === 1) throw new TransientError('busy');
    if (data.n === 3) throw new SyntaxError('a defect');
  }
}

@Controller()
class Events {
  @OnEvent(Happened, fast)
  async happened({ data, message, attempt }: Received<typeof Happened>): Promise<void> {
    calls.push(['happened', data.n, message.subject, attempt]);
    if (data.n === 2 && attempt < 3) throw new TransientError('busy');
  }

  @OnEvent(Happened, { consumer: 'audit' })
  audit({ data }: Received<typeof Happened>): void {
    calls.push(['audit', data.n]);
  }

  @OnEvent(Counted, { inSequence: true, ...fast })
  async counted({ data, message, attempt, tx, signal }: ReceivedInSequence<typeof Counted>): Promise<void> {
    calls.push(['counted', message.subject, data.n, attempt, signal instanceof AbortSignal]);
    await tx.query(note, [`counted ${message.subject}`, data.n]);
    if (message.subject === 'flaky' && attempt === 1) throw new TransientError('busy');
    if (message.subject === 'broken') throw new SyntaxError('a defect');
  }

  @OnEvent(Copied, { inSequence: true, manyPerKey: true })
  async copied({ events, tx }: ReceivedTogether<typeof Copied>): Promise<void> {
    for (const { data, message } of events) await tx.query(note, [`copied ${message.subject}`, data.n]);
  }
}

describe.each(adapters)('methods of controllers: $name', ({ connect, remove }) => {
  let database: TestDataSource;
  let transports: Awaited<ReturnType<typeof connect>>;
  let messaging: Messaging;
  let stop: () => Promise<void>;
  const bindings: Record<string, unknown>[] = [];

  beforeAll(async () => {
    database = await openTestDataSource([CreateMessagingTables1760000000001]);
    const { dataSource } = database;
    await dataSource.query('CREATE TABLE note (id bigserial PRIMARY KEY, kind text, n int)');
    transports = await connect();
    const info = (what: string, details: object = {}) => what === 'binding' && bindings.push({ ...details });
    const quiet = () => undefined;
    const logger = { info, warn: quiet, error: quiet, debug: quiet };

    @Module({ providers: [{ provide: DataSource, useValue: dataSource }], exports: [DataSource] })
    class DatabaseModule {}

    @Module({
      imports: [
        { module: DatabaseModule, global: true },
        MessagingModule.forRoot({ service, ...transports, logger, contracts, partitions: 2, sampleMs: 3_600_000 }),
      ],
      controllers: [Commands, ScopedCommands, Events],
    })
    class AppModule {}

    const app = await NestFactory.create(AppModule, new FastifyAdapter(), { logger: false, abortOnError: false });
    app.useGlobalFilters(new GlobalFilter());
    await connectMessaging(app);
    await app.init();
    messaging = app.get(Messaging);
    stop = () => app.close();
  });
  afterAll(async () => {
    await stop();
    await Promise.all([transports.commands.close(), transports.events.close()]);
    const suffixes = ['', '.dead-letter', ...[1, 5, 10].map((ms) => `.retry.${ms}`)];
    const queues = suffixes.map((suffix) => `${service}.commands${suffix}`);
    const topic = `${service}.events`;
    const groups = ['reactions', 'sequence'].map((name) => `${service}.${name}.${service}`);
    await remove(queues, [topic, ...[...groups, `${service}.audit`].map((group) => deadLetterTopic(topic, group))]);
    await database.close();
  });
  beforeEach(() => {
    calls = [];
  });

  const messageOf = ({ type }: MessageDefinition, n: unknown, fields: Partial<MessageFields> = {}): Message =>
    createMessage({ type, version: 1, source: 'spec', data: { n }, ...fields });
  async function send(
    definition: MessageDefinition,
    n: unknown,
    fields: Partial<MessageFields> = {},
  ): Promise<Message> {
    const message = messageOf(definition, n, fields);
    await transports.commands.send(message);
    return message;
  }
  const publish = (definition: MessageDefinition, subject: string, from: number, to = from) =>
    transports.events.publish(
      messaging.topic,
      Array.from({ length: to - from + 1 }, (_, index) =>
        messageOf(definition, from + index, { subject, sequence: from + index }),
      ),
    );
  const query = <Row>(text: string, values: unknown[]): Promise<Row[]> => database.dataSource.query(text, values);
  const notes = async (kind: string) =>
    (await query<{ n: number }>('SELECT n FROM note WHERE kind = $1 ORDER BY id', [kind])).map(({ n }) => n);
  const letterOf = async ({ id }: Message) => {
    const text = 'SELECT reason, error_type AS "errorType" FROM dead_letter WHERE id = $1';
    return (await query<{ reason: string; errorType: string }>(text, [id]))[0];
  };
  const settled = (type: string) => messaging.monitor.consumer(messaging.commands.queue).types.get(type)?.counts;

  it('logs each method with what it handles, and where', () => {
    const queue = `${service}.commands`;
    const bound = { queue, routingKey: Note.type, command: Note.type, handler: 'Commands.note' };
    expect(bindings.filter(({ handler }) => handler === 'Commands.note')).toEqual([bound]);
    expect(bindings).toContainEqual(
      expect.objectContaining({ group: `${service}.audit`, event: Happened.type, handler: 'Events.audit' }),
    );
    const group = `${service}.sequence.${service}`;
    expect(bindings).toContainEqual(
      expect.objectContaining({ group, event: Counted.type, order: 'sequence', handler: 'Events.counted' }),
    );
  });

  it('gives the method the decoded data with its envelope, and a copy takes no effect', async () => {
    const message = await send(Note, 7);
    await transports.commands.send(message);
    await eventually(() => expect(settled(Note.type)).toMatchObject({ handled: 1, duplicates: 1 }));
    expect(calls[0]).toEqual(['note', 7, message.id, 1]);
    expect(await notes('command')).toEqual([7]);
  });

  it('takes methods that are not asynchronous, and parameters with pipes of their own', async () => {
    await send(Sync, 1);
    await send(Piped, 2);
    await eventually(() => expect(calls).toHaveLength(2));
    expect(calls).toEqual(
      expect.arrayContaining([
        ['sync', 1],
        ['piped', 20, { n: 2 }],
      ]) as unknown,
    );
  });

  it('refuses what does not fit the contract, without a call, and tells the sender', async () => {
    const message = await send(Note, 'x', { replyTo: { address: 'spec.asker', subject: 'a' } });
    const text = `SELECT reason FROM inbox_discarded WHERE message_id = $1`;
    await eventually(async () => expect(await query(text, [message.id])).toHaveLength(1));
    const replies = `SELECT message->>'type' AS type FROM outbox WHERE message->>'causationId' = $1`;
    expect(await query(replies, [message.id])).toEqual([{ type: 'command.failed' }]);
    expect(calls).toEqual([]);
  });

  it('retries what the method throws as its own policy says', async () => {
    await send(Flaky, 1);
    await eventually(() => expect(settled(Flaky.type)).toMatchObject({ handled: 1, retried: 2 }));
    expect(calls).toEqual(['flaky 1', 'flaky 2', 'flaky 3']);
  });

  it('keeps an error as it is, whatever Nest would make of it', async () => {
    const message = await send(Broken, 1);
    await eventually(async () =>
      expect(await letterOf(message)).toEqual({ errorType: 'SyntaxError', reason: 'SyntaxError: a defect' }),
    );
  });

  it('carries out the outcome that the method returns', async () => {
    const message = await send(Decided, 1);
    await eventually(async () =>
      expect(await letterOf(message)).toEqual({ errorType: 'Decided', reason: 'for a human' }),
    );
    expect(calls).toEqual(['decided 1', 'decided 2']);
  });

  it('keeps for a human what a method answers with a value that is no outcome', async () => {
    const message = await send(Odd, 1);
    await eventually(async () =>
      expect(await letterOf(message)).toMatchObject({
        errorType: 'TerminalError',
        reason: expect.stringContaining('Commands.odd, or an interceptor around it, returned a value') as string,
      }),
    );
  });

  it('asks guards, and tells a refusal from a failure of the guard', async () => {
    const [allowed, refused, failing] = [await send(Guarded, 2), await send(Guarded, 3), await send(Guarded, 101)];
    await eventually(async () => {
      expect(await letterOf(refused)).toMatchObject({
        reason: expect.stringContaining('Forbidden resource') as string,
      });
      expect(await letterOf(failing)).toMatchObject({ errorType: 'RetriesExhausted' });
    });
    expect(calls).toContainEqual(['rpc', 'guarded', 2, allowed.type]);
    expect(calls.filter((call) => Array.isArray(call) && call[0] === 'guarded')).toEqual([['guarded', 2]]);
  });

  it('runs interceptors around it, which may replace an error but not the outcome', async () => {
    const wrapped = await send(Wrapped, 3);
    await eventually(async () =>
      expect(await letterOf(wrapped)).toMatchObject({
        reason: expect.stringContaining('Commands.wrapped, or an interceptor') as string,
      }),
    );
    calls = [];
    await send(Wrapped, 2);
    await eventually(() => expect(calls.at(-1)).toBe('after 2'));
    expect(calls).toEqual(['before 2', 'wrapped 2 1', 'before 2', 'wrapped 2 2', 'after 2']);
  });

  it('asks exception filters, those of the application last', async () => {
    const [filtered, translated] = [await send(Filtered, 1), await send(Translated, 1)];
    await eventually(async () => {
      expect(await letterOf(filtered)).toEqual({ errorType: 'RangeError', reason: 'RangeError: still full' });
      const reason = 'RangeError: seen by the global filter';
      expect(await letterOf(translated)).toEqual({ errorType: 'RangeError', reason });
    });
    expect(calls.filter((call) => call !== 'global filter: seen by the global filter')).toEqual([
      'filtered 1',
      'filtered 2',
    ]);
    expect(calls).toHaveLength(3);
  });

  it('makes a controller in request scope for each delivery, which knows its message', async () => {
    for (const n of [1, 2]) await send(Scoped, n);
    const broken = await send(Scoped, 3);
    await eventually(async () => {
      expect(settled(Scoped.type)).toMatchObject({ handled: 2, retried: 1 });
      expect(await letterOf(broken)).toEqual({ errorType: 'SyntaxError', reason: 'SyntaxError: a defect' });
    });
    const seen = calls as [string, number, boolean, { n: number }][];
    expect(new Set(seen.map(([, instance]) => instance)).size).toBe(4);
    expect(seen.every(([, , isSame]) => isSame)).toBe(true);
    expect(seen.map(([, , , { n }]) => n).sort()).toEqual([1, 2, 2, 3]);
  });

  it('hands over events in any order, to each consumer, with retries', async () => {
    await publish(Happened, 'a', 1, 2);
    await eventually(() => expect(calls).toHaveLength(6));
    expect(calls).toEqual(
      expect.arrayContaining([
        ['happened', 1, 'a', 1],
        ['happened', 2, 'a', 1],
        ['happened', 2, 'a', 2],
        ['happened', 2, 'a', 3],
        ['audit', 1],
        ['audit', 2],
      ]) as unknown,
    );
  });

  it('hands over events in sequence one by one; a failure holds back its key and undoes what was written', async () => {
    await publish(Counted, 'broken', 1, 2);
    await publish(Counted, 'flaky', 1, 2);
    await publish(Counted, 'well', 1, 3);
    await eventually(async () => {
      expect(await notes('counted flaky')).toEqual([1, 2]);
      expect(await notes('counted well')).toEqual([1, 2, 3]);
    });
    const parked = 'SELECT sequence::int, error_type FROM inbox_parked WHERE key = $1 AND failure IS NOT NULL';
    await eventually(async () =>
      expect(await query(parked, ['broken'])).toEqual([{ sequence: 1, error_type: 'SyntaxError' }]),
    );
    expect(await notes('counted broken')).toEqual([]);
    expect(calls).toContainEqual(['counted', 'flaky', 1, 2, true]);
  });

  it('hands over all events of a transaction at once, in the order of their keys', async () => {
    await Promise.all(['x', 'y'].map((key) => publish(Copied, key, 1, 50)));
    const all = Array.from({ length: 50 }, (_, index) => index + 1);
    await eventually(async () => {
      expect(await notes('copied x')).toEqual(all);
      expect(await notes('copied y')).toEqual(all);
    });
  });

  // The last: nothing runs afterwards.
  it('waits for the methods in hand when the application stops', async () => {
    await send(Slow, 1);
    await eventually(() => expect(release).toBeDefined());
    const stopping = stop();
    await eventually(() => expect(messaging.stopping).toBe(true));
    release?.();
    await stopping;
    expect(calls).toEqual(['slow ended']);
    expect(messaging.cutOff).toEqual({});
    release = undefined;
  });
});

import { SendEmail } from '@starter/contracts';
import { ActorRuntime, CreateEventStore1760000000002 } from '@starter/event-sourcing';
import {
  backoffDelay,
  commandsExchange,
  CreateMessagingTables1760000000001,
  createMessage,
  DatabaseUnavailableError,
  inTransaction,
  MemoryCommandBroker,
  MemoryCommandTransport,
  MemoryEventLog,
  MemoryEventTransport,
  Messaging,
  silentLogger,
  toMessage,
  TransientError,
  type Message,
  type MessagingOptions,
} from '@starter/messaging';
import { CreatePersonalKeys1760000000004, keyTopic, PersonalData } from '@starter/personal-data';
import {
  eventually,
  openTestDataSource,
  personalDataOf,
  sealAs,
  testPersonalDataKey,
  type TestDataSource,
} from '@starter/testing';
import { jest } from '@jest/globals';
import type { AddressInfo } from 'node:net';
import { text } from 'node:stream/consumers';
import { SMTPServer } from 'smtp-server';
import { emailDelivery } from './email.decider.js';
import { EmailSender, temporary } from './email-sender.controller.js';
import { MailError } from './mail-error.js';
import { MailServerState } from './mail-server-state.js';
import { Mailer } from './mailer.js';

const replies = 'spec.replies';
const recipient = { owner: 'user-service', subject: 'ada' };

/** Answers of the mail server to the coming e-mails, in their order; after the last one it takes them all. */
type Answer = 'take' | { readonly refuse: number };

let database: TestDataSource;
let broker: MemoryCommandBroker;
let log: MemoryEventLog;
let smtp: SMTPServer;
let mailer: Mailer;
/** Message-ID headers of the e-mails that the server took. */
let taken: string[];
let asked: number;
let answers: Answer[];
let running: Messaging[];
/** Sealed as user-service does it. */
let ada: Record<'to' | 'name' | 'token', string>;

beforeEach(async () => {
  [taken, asked, answers, running] = [[], 0, [], []];
  [broker, log] = [new MemoryCommandBroker(), new MemoryEventLog()];
  log.declare([{ name: 'user-service.keys', partitions: 2, compacted: true }]);
  broker.declare({
    exchanges: [{ name: commandsExchange, type: 'direct' }],
    queues: [{ name: replies }],
    bindings: [{ exchange: commandsExchange, queue: replies, routingKey: replies }],
  });
  database = await openTestDataSource([
    CreateMessagingTables1760000000001,
    CreateEventStore1760000000002,
    CreatePersonalKeys1760000000004,
  ]);
  const texts = { email: 'ada@example.com', name: 'Ada', verificationToken: 'c0de' };
  const { email, name, verificationToken } = await sealAs(database.dataSource, recipient, texts);
  ada = { to: email, name, token: verificationToken } as typeof ada;
  smtp = await startSmtpServer();
  const { port } = smtp.server.address() as AddressInfo;
  mailer = new Mailer({ url: `smtp://127.0.0.1:${port}`, from: 'Starter <no-reply@mail.example>' });
});

afterEach(async () => {
  await Promise.all(running.map((messaging) => messaging.beforeApplicationShutdown()));
  mailer.onApplicationShutdown();
  await new Promise<void>((resolve) => smtp.close(resolve));
  await database.close();
});

async function startSmtpServer(): Promise<SMTPServer> {
  const server = new SMTPServer({
    authOptional: true,
    logger: false,
    onData: (stream, { envelope }, callback) => {
      void text(stream).then((raw) => {
        asked += 1;
        const answer = answers.shift() ?? 'take';
        if (answer !== 'take')
          return callback(
            Object.assign(new Error(`refused ${JSON.stringify(envelope.rcptTo)}`), { responseCode: answer.refuse }),
          );
        taken.push(/^Message-ID: (.+)$/im.exec(raw)?.[1]?.trim() ?? '');
        callback();
      });
    },
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

interface Instance {
  readonly messaging: Messaging;
  readonly runtime: ActorRuntime;
  readonly sender: EmailSender;
}

/** One process of the service. */
async function startInstance(
  using: Pick<Mailer, 'send'> = mailer,
  options: Partial<MessagingOptions> = {},
): Promise<Instance> {
  const messaging = new Messaging({
    service: 'email-service',
    dataSource: database.dataSource,
    commands: new MemoryCommandTransport(broker),
    events: new MemoryEventTransport(log),
    logger: silentLogger,
    partitions: 2,
    ...options,
  });
  const personalData = PersonalData.join(messaging, { masterKey: testPersonalDataKey, follows: ['user-service'] });
  const runtime = new ActorRuntime(messaging);
  const server = new MailServerState({ logger: silentLogger, probeMs: 20 });
  const failurePolicy = { maxRetries: 3, backoff: { baseMs: 10 } };
  const sender = new EmailSender(messaging, personalData, runtime, using, server, failurePolicy);
  sender.onModuleInit();
  messaging.commands.handle(SendEmail, (received) => sender.send(received), { failurePolicy });
  await messaging.onApplicationBootstrap();
  running.push(messaging);
  return { messaging, runtime, sender };
}

const sendEmail = (variables: Record<string, string> = { name: ada.name, code: ada.token }): Message =>
  toMessage(SendEmail.of({ to: ada.to, template: 'welcome', variables }), {
    source: 'spec',
    replyTo: { address: replies, subject: 'workflow-1' },
  });

const deliver = (message: Message): Promise<void> => new MemoryCommandTransport(broker).send(message);

const receivedReplies = () =>
  broker.messages(replies).map(({ properties, content }) => ({
    type: properties.type,
    subject: properties.headers?.['subject'],
    data: JSON.parse(content.toString()) as unknown,
  }));

const storedEvents = async (id: string): Promise<string[]> => {
  const rows = await database.dataSource.query<{ type: string }[]>(
    'SELECT type FROM event WHERE stream_id = $1 ORDER BY sequence',
    [`email-${id}`],
  );
  return rows.map(({ type }) => type);
};

const outcomeOf = async ({ runtime }: Instance, id: string) => (await runtime.read(emailDelivery, id)).state;

/** Everything that was delivered has been handled and acknowledged. */
async function settled({ messaging }: Instance): Promise<void> {
  await eventually(() => expect(broker.messages(messaging.commands.queue)).toEqual([]));
  await messaging.commands.stop();
}

describe('SendEmail', () => {
  it('sends one e-mail, stores what happened and answers with it', async () => {
    const instance = await startInstance();
    const command = sendEmail();
    await deliver(command);
    await eventually(() => expect(receivedReplies()).toHaveLength(1));

    const messageId = `<${command.id}@mail.example>`;
    expect(taken).toEqual([messageId]);
    const sent = { emailId: command.id, to: ada.to, template: 'welcome', messageId };
    expect(receivedReplies()).toEqual([
      { type: 'command.succeeded', subject: 'workflow-1', data: { requestId: command.id, result: sent } },
    ]);
    expect(await storedEvents(command.id)).toEqual(['email.requested', 'email.attempted', 'email.sent']);
    expect(await outcomeOf(instance, command.id)).toMatchObject({ status: 'sent', attempts: 1, messageId });
    await eventually(() => expect(log.read('email-service.events')).toHaveLength(3));
  });

  it('names the command as the cause of every event', async () => {
    const command = { ...sendEmail(), correlationId: 'request-1' };
    await startInstance();
    await deliver(command);
    await eventually(() => expect(receivedReplies()).toHaveLength(1));
    const causes: unknown = await database.dataSource.query(
      'SELECT DISTINCT correlation_id AS "correlationId", causation_id AS "causationId" FROM event',
    );
    expect(causes).toEqual([{ correlationId: 'request-1', causationId: command.id }]);
  });

  it('sends one e-mail when the command is delivered twice, at once and later', async () => {
    const instance = await startInstance();
    const command = sendEmail();
    await Promise.all([deliver(command), deliver(command)]);
    await eventually(() => expect(receivedReplies()).toHaveLength(1));
    await deliver(command);
    await settled(instance);

    expect(taken).toHaveLength(1);
    expect(await storedEvents(command.id)).toEqual(['email.requested', 'email.attempted', 'email.sent']);
    expect(receivedReplies()).toHaveLength(1);
  });

  it('waits for its outcome to be stored through an outage of the database, and sends no second copy', async () => {
    const instance = await startInstance();
    const terminated = Object.assign(new Error('terminating connection'), { code: '57P01' });
    failFirstStoreOf('email.sent', instance.messaging, new DatabaseUnavailableError(terminated));
    const command = sendEmail();
    await deliver(command);
    await eventually(() => expect(receivedReplies()).toHaveLength(1));
    expect(taken).toHaveLength(1);
    expect(await outcomeOf(instance, command.id)).toMatchObject({ status: 'sent', attempts: 1 });
  });

  it('sends a second copy with the same Message-ID when its outcome could not be stored', async () => {
    const instance = await startInstance();
    failFirstStoreOf('email.sent', instance.messaging, new TransientError('serialization failure'));
    const command = sendEmail();
    await deliver(command);
    await eventually(() => expect(receivedReplies()).toHaveLength(1));

    const messageId = `<${command.id}@mail.example>`;
    expect(taken).toEqual([messageId, messageId]);
    const events = await storedEvents(command.id);
    expect(events).toEqual(['email.requested', 'email.attempted', 'email.attempted', 'email.sent']);
    expect(receivedReplies()).toHaveLength(1);
  });

  it('sends a second copy with the same Message-ID when its process dies after the server took the first', async () => {
    const command = sendEmail();
    const dying: Pick<Mailer, 'send'> = {
      send: async (id, mail) => {
        await mailer.send(id, mail);
        return new Promise<string>(() => undefined);
      },
    };
    // Nobody waits at its end for what never returns.
    const dead = await startInstance(dying, { prefetch: 1, drainMs: 0 });
    await deliver(command);
    await eventually(() => expect(taken).toHaveLength(1));
    await dead.messaging.relay.stop();
    const alive = await startInstance();
    // The connections of both drop: what the dead one left unacknowledged is delivered again, to the one that is free.
    broker.stop();
    broker.start();
    await eventually(() => expect(receivedReplies()).toHaveLength(1));

    const messageId = `<${command.id}@mail.example>`;
    expect(taken).toEqual([messageId, messageId]);
    expect(await outcomeOf(alive, command.id)).toMatchObject({ status: 'sent', attempts: 2 });
    expect((await storedEvents(command.id)).filter((type) => type === 'email.sent')).toHaveLength(1);
  });

  it('fails at once when the server refuses the e-mail for good', async () => {
    answers = [{ refuse: 550 }];
    const instance = await startInstance();
    const command = sendEmail();
    await deliver(command);
    await deliver(command);
    await eventually(() => expect(receivedReplies()).toHaveLength(1));
    await settled(instance);

    const reason = expect.stringContaining('550') as string;
    expect(receivedReplies()).toEqual([
      { type: 'command.failed', subject: 'workflow-1', data: { requestId: command.id, reason } },
    ]);
    expect(await storedEvents(command.id)).toEqual(['email.requested', 'email.attempted', 'email.failed']);
    expect(await outcomeOf(instance, command.id)).toMatchObject({ status: 'failed', attempts: 1, reason });
    expect(asked).toBe(1);
    const published = log.read('email-service.events').map(({ value }) => String(value));
    expect(JSON.stringify([receivedReplies(), published])).not.toContain('ada@example.com');
    expect(JSON.stringify(receivedReplies())).toContain('[address]');
  });

  it('fails for good when the recipient was erased, without asking the server', async () => {
    const owner = personalDataOf(recipient.owner, database.dataSource);
    await inTransaction(database.dataSource, (tx) => owner.erase(tx, [recipient.subject]));
    const instance = await startInstance();
    const command = sendEmail();
    await deliver(command);
    const reason = 'the recipient was erased';
    await eventually(() => expect(receivedReplies()).toMatchObject([{ type: 'command.failed', data: { reason } }]));
    expect(await outcomeOf(instance, command.id)).toMatchObject({ status: 'failed', reason });
    expect(asked).toBe(0);
  });

  it('waits for the key of a recipient, which costs no attempt', async () => {
    const [[key]] = await database.dataSource.query<[[{ wrapped_key: string }]]>(
      'DELETE FROM personal_key RETURNING wrapped_key',
    );
    const instance = await startInstance();
    const command = sendEmail();
    await deliver(command);
    await eventually(() => expect(instance.messaging.monitor.totals.retried).toBeGreaterThan(0));
    const { subject, owner } = recipient;
    const data = { subject, wrappedKey: key.wrapped_key };
    const created = createMessage({ type: 'personal-data.key-created', version: 1, source: owner, subject, data });
    await new MemoryEventTransport(log).publish(keyTopic(owner), [created]);
    await eventually(() => expect(receivedReplies()).toMatchObject([{ type: 'command.succeeded' }]));
    expect(await outcomeOf(instance, command.id)).toMatchObject({ status: 'sent', attempts: 1 });
  });

  it('tries again after transient failures and counts the attempts', async () => {
    answers = [{ refuse: 451 }, { refuse: 421 }, 'take'];
    const instance = await startInstance();
    const command = sendEmail();
    await deliver(command);
    await eventually(() => expect(receivedReplies()).toMatchObject([{ type: 'command.succeeded' }]));
    expect(await outcomeOf(instance, command.id)).toMatchObject({ status: 'sent', attempts: 3 });
    expect(taken).toHaveLength(1);
  });

  it('is given to a human when the retries are used up, and has not failed: nobody is deactivated for it', async () => {
    answers = Array<Answer>(4).fill({ refuse: 451 });
    const instance = await startInstance();
    const command = sendEmail();
    await deliver(command);
    const { deadLetters } = instance.messaging;
    const reason = expect.stringMatching(/^not sent in 4 attempts: .*451/) as string;
    const letter = { id: command.id, errorType: 'RetriesExhausted', reason };
    await eventually(async () => expect((await deadLetters.list()).items).toMatchObject([letter]));
    const ends = () => receivedReplies().filter(({ type }) => type !== 'command.held');
    expect([ends(), asked]).toEqual([[], 4]);
    expect(JSON.stringify(await deadLetters.show(command.id))).not.toContain('ada@example.com');
    await deadLetters.redrive('all');
    await eventually(() => expect(ends()).toMatchObject([{ type: 'command.succeeded' }]));
  });

  it('is tried again for two days and more when the server only asks for patience', () => {
    const delays = Array.from({ length: temporary.maxRetries ?? 0 }, (_, n) =>
      backoffDelay(n + 1, { ...temporary.backoff, jitter: 0 }),
    );
    expect(delays.slice(0, 4)).toEqual([30_000, 60_000, 120_000, 240_000]);
    expect(delays.reduce((sum, delay) => sum + delay, 0)).toBeGreaterThan(2 * 86_400_000);
  });

  it('waits while no e-mail goes through, without a limit, and says so once; all are sent when one does', async () => {
    const down = new MailError('set-up', '530 5.7.0 Must issue a STARTTLS command first for ada@example.com');
    const state = { down: true, asked: 0 };
    const sender: Pick<Mailer, 'send'> = {
      send: async (...args) => {
        state.asked += 1;
        if (state.down) throw down;
        return mailer.send(...args);
      },
    };
    const instance = await startInstance(sender);
    const commands = Array.from({ length: 5 }, () => sendEmail());
    for (const command of commands) await deliver(command);
    // More often than its retries would allow.
    await eventually(() => expect(state.asked).toBeGreaterThan(25));
    const { messaging } = instance;
    const [problem, ...others] = messaging.problems();
    expect([problem?.part, others]).toEqual(['mail server', []]);
    expect(problem?.problem).toMatch(/530 .*\[address\].*check SMTP_URL/);
    expect(receivedReplies()).toEqual([]);
    expect((await messaging.deadLetters.list()).items).toEqual([]);
    state.down = false;
    await eventually(() => expect(receivedReplies()).toHaveLength(5));
    expect(new Set(taken).size).toBe(5);
    expect(messaging.problems()).toEqual([]);
  });

  it('stops at the soft time limit, which says nothing about the e-mail: it does not give up', async () => {
    let cutOff = 0;
    const slow: Pick<Mailer, 'send'> = {
      send: (id, mail, signal) => {
        if (cutOff === 5) return mailer.send(id, mail);
        return new Promise((_, reject) => {
          const cut = () => {
            cutOff += 1;
            reject(new MailError('temporary', 'cut off'));
          };
          if (signal?.aborted) cut();
          else signal?.addEventListener('abort', cut);
        });
      },
    };
    const instance = await startInstance(slow, { timeLimit: { softMs: 50 } });
    const command = sendEmail();
    await deliver(command);
    await eventually(() => expect(taken).toHaveLength(1));
    await eventually(async () => {
      expect(await outcomeOf(instance, command.id)).toMatchObject({ status: 'sent', attempts: 6 });
    });
  });

  it('fails without asking the server when a variable of the template is missing', async () => {
    const instance = await startInstance();
    const command = sendEmail({ nickname: ada.name });
    await deliver(command);
    await eventually(() => expect(receivedReplies()).toMatchObject([{ type: 'command.failed' }]));
    const reason = expect.stringMatching(/^template welcome was given wrong variables: name: /) as string;
    expect(await outcomeOf(instance, command.id)).toMatchObject({ status: 'failed', attempts: 1, reason });
    expect(asked).toBe(0);
  });

  it('is refused when it would tell its recipient what was sealed about somebody else', async () => {
    const eve = await sealAs(database.dataSource, { ...recipient, subject: 'eve' }, { email: 'eve@example.com' });
    await startInstance();
    const { replyTo, ...fields } = sendEmail();
    const data = { to: eve['email'], template: 'welcome', variables: { name: ada.name, code: ada.token } };
    const command = createMessage({ ...fields, ...(replyTo ? { replyTo } : {}), data });
    await deliver(command);
    const reason = expect.stringContaining('variables must be of the person to whom the e-mail goes') as string;
    await eventually(() => expect(receivedReplies()).toMatchObject([{ type: 'command.failed', data: { reason } }]));
    expect([asked, await storedEvents(command.id)]).toEqual([0, []]);
  });

  it('is refused when it does not fit its schema', async () => {
    await startInstance();
    const { replyTo, ...fields } = sendEmail();
    const data = { to: 'ada', template: 'welcome', variables: {} };
    const command = createMessage({ ...fields, ...(replyTo ? { replyTo } : {}), data });
    await deliver(command);
    await eventually(() => expect(receivedReplies()).toMatchObject([{ type: 'command.failed' }]));
    expect(await storedEvents(command.id)).toEqual([]);
    expect(asked).toBe(0);
  });
});

/** The transaction that first wants to publish an event of this type fails. */
function failFirstStoreOf(type: string, { outbox }: Messaging, error: Error): void {
  const prepare = outbox.prepare.bind(outbox);
  let failed = false;
  jest.spyOn(outbox, 'prepare').mockImplementation((entries) => {
    if (failed || !entries.some(({ message }) => message.type === type)) return prepare(entries);
    failed = true;
    throw error;
  });
}

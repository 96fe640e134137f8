import { RegisterUser, SendEmail, UserRegistered } from '@starter/contracts';
import {
  MailCatcher,
  MailReader,
  startBackends,
  startServices,
  type Backends,
  type BrokerMode,
  type Services,
} from '@starter/demo';
import { createMessage, DeadLetters, newMessageId, toMessage, type Message } from '@starter/messaging';
import type { Transports } from '@starter/service';
import { eventually, sealedText } from '@starter/testing';
import amqp, { type ConsumeMessage } from 'amqplib';
import kafkajs from 'kafkajs';
import { randomUUID } from 'node:crypto';
import { DataSource } from 'typeorm';

const { Kafka, logLevel } = kafkajs;
const verificationToken = 'a-token-of-20-letters';
const sealed = expect.stringMatching(/^sealed:v1:user-service\//) as unknown;

const modes: BrokerMode[] = process.env['NATIVE_BROKERS'] === 'missing' ? ['memory'] : ['memory', 'native'];

describe.each(modes)('onboarding over %s brokers', (brokers) => {
  let backends: Backends;
  let catcher: MailCatcher;
  let reader: MailReader;
  let services: Services;
  let outside: Transports;

  beforeAll(async () => {
    backends = await startBackends({ brokers, users: '', once: true }, () => undefined);
    catcher = MailCatcher.inFolder(undefined);
    for (const name of ['USER_SERVICE_PORT', 'EMAIL_SERVICE_PORT', 'ORCHESTRATOR_PORT']) process.env[name] = '0';
    services = await startServices(backends, await catcher.listen());
    reader = new MailReader(catcher, () => [services.users.url]);
    outside = await backends.transportsFor('plain-client');
  }, 120_000);

  afterAll(async () => {
    await Promise.all([outside?.commands.close(), outside?.events.close()]);
    reader?.close();
    await services?.stop();
    await catcher?.close();
    await backends?.stop();
  }, 60_000);

  const by = (role: keyof Services['tokens']) => ({ authorization: `Bearer ${services.tokens[role]}` });
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    fetch(services.users.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...by(path === '/campaigns' ? 'operator' : 'client'), ...headers },
      body: typeof body === 'string' ? body : JSON.stringify(body),
    });
  const register = async (email: string, name = 'Ada Lovelace') => {
    const response = await post('/users', { email, name });
    expect(response.status).toBe(202);
    const accepted = (await response.json()) as { userId: string; commandId: string };
    reader.readFor(email, accepted.userId);
    return accepted;
  };
  const userOf = async (id: string) =>
    (await (await fetch(`${services.users.url}/users/${id}`, { headers: by('client') })).json()) as Record<
      string,
      unknown
    >;
  const uniqueEmail = (domain = 'example.com') => `${randomUUID()}@${domain}`;
  const mailsTo = (email: string) => [...catcher.mails.values()].filter(({ to }) => to === email);
  const untilActive = (id: string) =>
    eventually(async () => expect(await userOf(id)).toMatchObject({ status: 'active', version: 3 }));
  const workflowsOf = async (correlationId: string) =>
    services.orchestrator.app.get(DataSource).query<{ type: string }[]>(
      `SELECT type FROM event WHERE stream_id IN (SELECT stream_id FROM event WHERE correlation_id = $1)
          ORDER BY stream_id, sequence`,
      [correlationId],
    );

  it('takes a registration from HTTP to an e-mail and an active user', async () => {
    const email = uniqueEmail();
    const { userId, commandId } = await register(email, 'Grace <b>Hopper</b>');
    await untilActive(userId);
    const [mail, ...others] = mailsTo(email);
    expect(others).toEqual([]);
    expect(mail?.raw).toContain('text/plain');
    expect(mail?.raw).toContain('text/html');
    await eventually(async () =>
      expect((await workflowsOf(commandId)).map(({ type }) => type)).toEqual([
        'workflow.started',
        'workflow.event-expected',
        'workflow.task-requested',
        'workflow.task-succeeded',
        'workflow.timer-set',
        'workflow.event-awaited',
        'workflow.event-received',
        'workflow.task-requested',
        'workflow.task-succeeded',
        'workflow.completed',
      ]),
    );
  });

  it('verifies an address with the code of the e-mail only, and changes nothing the second time', async () => {
    const email = uniqueEmail();
    const response = await post('/users', { email, name: 'Ada' });
    const { userId } = (await response.json()) as { userId: string };
    const verify = async (id: string, token: string) => (await post(`/users/${id}/verification`, { token })).status;
    await eventually(() => expect(mailsTo(email)).toHaveLength(1));
    expect(await verify(userId, verificationToken)).toBe(403);
    expect(await verify(userId, 'short')).toBe(400);
    expect(await verify(randomUUID(), verificationToken)).toBe(404);
    expect(await userOf(userId)).toMatchObject({ status: 'registered', version: 1 });
    const code = /^Your code: (.*)$/m.exec(mailsTo(email)[0]?.raw ?? '')?.[1]?.trim() ?? '';
    expect([await verify(userId, code), await verify(userId, code)]).toEqual([202, 202]);
    await untilActive(userId);
  });

  it('sends a campaign to the active users of a time, once for an Idempotency-Key', async () => {
    const registeredFrom = new Date().toISOString();
    const emails = [uniqueEmail(), uniqueEmail()];
    for (const email of emails) await untilActive((await register(email)).userId);
    const [key, body] = [{ 'idempotency-key': randomUUID() }, { name: 'Summer', registeredFrom }];
    const answers = [await post('/campaigns', body, key), await post('/campaigns', body, key)];
    const [accepted, again] = await Promise.all(answers.map((answer) => answer.json()));
    expect(again).toEqual(accepted);
    expect(accepted).toMatchObject({ recipients: 2 });
    await eventually(() => {
      const news = emails.map((email) => mailsTo(email).filter(({ subject }) => subject.startsWith('News')).length);
      expect(news).toEqual([1, 1]);
    });
    expect((await post('/campaigns', { name: 'Past', registeredUntil: '2020-01-01T00:00:00Z' })).status).toBe(409);
    expect((await post('/campaigns', { ...body, name: 'Autumn' }, key)).status).toBe(422);
    expect((await post('/campaigns', { name: '' })).status).toBe(400);
  });

  it('refuses a campaign that its workflow could not take up, and sends none', async () => {
    const registeredFrom = new Date().toISOString();
    const dataSource = services.users.app.get(DataSource);
    const [user] = await dataSource.query<[{ id: string }]>(
      `INSERT INTO user_directory (user_id, email, name, status, registered_at, version)
       SELECT gen_random_uuid(), owner || '/email' || sealed, owner || '/name' || sealed || repeat('n', 1000000), 'active', now(), 1
         FROM (SELECT 'sealed:v1:user-service/nobody' AS owner, ':' || repeat('i', 16) || ':' || repeat('t', 22) AS sealed) AS text
       RETURNING user_id AS id`,
    );
    const response = await post('/campaigns', { name: 'Long', registeredFrom });
    expect([response.status, await response.json()]).toEqual([
      409,
      expect.objectContaining({ detail: expect.stringContaining('name a shorter one') as string }),
    ]);
    const waiting = `SELECT FROM outbox WHERE message ->> 'type' = 'campaign.start'`;
    expect(await dataSource.query(waiting)).toEqual([]);
    await dataSource.query('DELETE FROM user_directory WHERE user_id = $1', [user.id]);
  });

  it('sends a campaign to the users that are named, and reports on those that could not be reached', async () => {
    const emails = [uniqueEmail(), uniqueEmail(), uniqueEmail('refused.example')];
    const users = await Promise.all(emails.map(async (email) => (await register(email)).userId));
    await eventually(async () => {
      for (const id of users) expect(await userOf(id)).toMatchObject({ id });
    });
    const recipients = await services.users.app
      .get(DataSource)
      .query<unknown[]>('SELECT email AS to, name FROM user_directory WHERE user_id = ANY ($1)', [users]);
    const campaign = { campaignId: randomUUID(), name: 'Spring' };
    const { url } = services.orchestrator;
    const response = await fetch(`${url}/workflows`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...by('operator') },
      body: JSON.stringify({ workflow: 'email-campaign', input: { ...campaign, recipients } }),
    });
    const { workflowId } = (await response.json()) as { workflowId: string };
    await eventually(async () =>
      expect(await (await fetch(`${url}/workflows/${workflowId}`, { headers: by('viewer') })).json()).toMatchObject({
        state: 'completed',
        groups: [{ path: '0.0', size: 3, begun: 3, succeeded: 2, failed: 1 }],
        results: { '0.1': { ...campaign, sent: 2, failed: 1 } },
      }),
    );
    for (const email of emails.slice(0, 2)) {
      expect(mailsTo(email).filter(({ subject }) => subject.startsWith('News'))).toHaveLength(1);
    }
  });

  it('answers a repeated request with the first answer, and refuses the key for another request', async () => {
    const body = { email: uniqueEmail(), name: 'Ada' };
    const key = { 'idempotency-key': randomUUID() };
    const answers = await Promise.all(Array.from({ length: 5 }, () => post('/users', body, key)));
    const accepted = await Promise.all(answers.map((answer) => answer.json()));
    expect(new Set(accepted.map((answer) => JSON.stringify(answer))).size).toBe(1);
    expect((await post('/users', { ...body, name: 'Eve' }, key)).status).toBe(422);
    const { userId } = accepted[0] as { userId: string };
    reader.readFor(body.email, userId);
    await untilActive(userId);
    expect(mailsTo(body.email)).toHaveLength(1);
  });

  it('gives an e-mail address to one of twenty that ask at once', async () => {
    const email = uniqueEmail();
    const answers = await Promise.all(
      Array.from({ length: 20 }, (_, n) =>
        post('/users', { email: n % 2 ? email : email.toUpperCase(), name: `n${n}` }),
      ),
    );
    const statuses = answers.map(({ status }) => status).sort((a, b) => a - b);
    expect(statuses).toEqual([202, ...Array.from({ length: 19 }, () => 409)]);
  });

  it('refuses a registration that came around the HTTP edge when the address is taken', async () => {
    const email = uniqueEmail();
    const { userId } = await register(email);
    await untilActive(userId);
    const other = newMessageId();
    const rival = toMessage(RegisterUser.of({ userId: other, email, name: 'Eve', verificationToken }), {
      source: 'plain-client',
    });
    await outside.commands.send(rival);
    await eventually(async () =>
      expect(await discardReason(services.users.app.get(DataSource), rival.id)).toContain('taken'),
    );
    expect((await fetch(`${services.users.url}/users/${other}`, { headers: by('client') })).status).toBe(404);
  });

  it('deactivates the user when the welcome e-mail is refused for good, and frees the address', async () => {
    const email = uniqueEmail('refused.example');
    const { userId, commandId } = await register(email);
    await eventually(async () => expect(await userOf(userId)).toMatchObject({ status: 'deactivated' }));
    await eventually(async () =>
      expect((await workflowsOf(commandId)).map(({ type }) => type).at(-1)).toBe('workflow.failed'),
    );
    await register(email);
  });

  it('drops every second copy of a command and of an event', async () => {
    const email = uniqueEmail();
    const { userId, commandId } = await register(email);
    await untilActive(userId);
    const before = await effects(userId);
    const registration = toMessage(RegisterUser.of({ userId, email, name: 'Ada Lovelace', verificationToken }), {
      id: commandId,
      source: 'user-service',
    });
    const [stored] = await services.users.app
      .get(DataSource)
      .query<{ id: string; data: unknown; stream_id: string; recorded_at: Date; causation_id: string }[]>(
        `SELECT * FROM event WHERE correlation_id = $1 AND sequence = 1`,
        [commandId],
      );
    if (!stored) throw new Error('the registration left no event');
    const event = createMessage({
      id: stored.id,
      type: UserRegistered.type,
      version: 1,
      source: 'user-service',
      subject: stored.stream_id,
      sequence: 1,
      correlationId: commandId,
      causationId: stored.causation_id,
      data: stored.data,
    });
    const duplicates = () => services.all.reduce((sum, { messaging }) => sum + messaging.monitor.totals.duplicates, 0);
    const droppedBefore = duplicates();
    for (let copy = 0; copy < 3; copy += 1) {
      await outside.commands.send(registration);
      await outside.events.publish('user-service.events', [event]);
    }
    // Three commands, and three events for each of the two consumers of the topic.
    await eventually(() => expect(duplicates() - droppedBefore).toBe(9));
    expect(await effects(userId)).toEqual(before);
    expect(mailsTo(email)).toHaveLength(1);
  });

  it('keeps what it cannot handle, with the reason, and handles the next message', async () => {
    const unknownVersion = { ...registration(), version: 99 };
    const badData = { ...registration(), data: { userId: 'nobody' } };
    const unknownField = registration();
    Object.assign(unknownField.data as object, { role: 'admin' });
    for (const message of [unknownVersion, badData, unknownField]) await outside.commands.send(message);
    const next = registration();
    const { email } = next.data as { email: string };
    reader.readFor(email, next.subject as string);
    await outside.commands.send(next);
    await eventually(async () => expect((await userOf(next.subject as string))['status']).toBe('active'));
    const database = services.users.app.get(DataSource);
    await eventually(async () => expect(await discardReason(database, badData.id)).toContain('userId: Invalid UUID'));
    await eventually(async () => expect(await discardReason(database, unknownField.id)).toContain('role'));
    const [kept] = await database.query<{ message: Message }[]>(
      'SELECT message FROM inbox_discarded WHERE message_id = $1',
      [unknownField.id],
    );
    const redacted = '[redacted]';
    const { subject: userId } = unknownField;
    expect(kept?.message.data).toEqual({
      userId,
      email: redacted,
      name: redacted,
      verificationToken: redacted,
      role: redacted,
    });
    const deadLetters = new DeadLetters({ dataSource: database, service: 'user-service' });
    await eventually(async () =>
      expect(await deadLetters.show(unknownVersion.id)).toMatchObject([
        { errorType: 'UnknownVersion', message: { id: unknownVersion.id, version: 99, data: unknownVersion.data } },
      ]),
    );
  });

  it('tells a workflow that its command was refused', async () => {
    const workflowId = randomUUID();
    const invalid = {
      ...toMessage(SendEmail.of({ to: sealedText('nobody', 'email'), template: 'welcome', variables: {} }), {
        source: 'x',
      }),
    };
    const message: Message = {
      ...invalid,
      data: { to: 'nowhere' },
      replyTo: { address: 'orchestrator.replies', subject: workflowId },
    };
    await outside.commands.send(message);
    // Nobody waits for it there: the reply is kept with its reason instead of being dropped.
    await eventually(async () => {
      const rows = await services.orchestrator.app
        .get(DataSource)
        .query<unknown[]>(`SELECT FROM inbox_discarded WHERE message->>'subject' = $1`, [workflowId]);
      expect(rows).toHaveLength(1);
    });
  });

  if (brokers === 'native') {
    it('shows a plain client of either broker what the design says', async () => {
      const rabbitMq = await amqp.connect(backends.urls?.rabbitMq ?? '');
      const channel = await rabbitMq.createChannel();
      const { queue } = await channel.assertQueue('', { exclusive: true });
      for (const key of ['user.register', 'email.send', 'user.verify', 'user.activate', 'orchestrator.replies']) {
        await channel.bindQueue(queue, 'commands', key);
      }
      const commands: ConsumeMessage[] = [];
      await channel.consume(queue, (message) => message && commands.push(message));
      const kafka = new Kafka({ brokers: [backends.urls?.kafka ?? ''], logLevel: logLevel.NOTHING });
      const consumer = kafka.consumer({ groupId: randomUUID() });
      await consumer.connect();
      await consumer.subscribe({ topics: [/^[a-z]+(-service)?\.events$/], fromBeginning: true });
      const records: { topic: string; key: string; headers: Record<string, string>; data: unknown }[] = [];
      await consumer.run({
        eachMessage: async ({ topic, message: { key, value, headers = {} } }) => {
          const texts = Object.entries(headers).map(([name, header]) => [name, String(header)]);
          records.push({
            topic,
            key: String(key),
            headers: Object.fromEntries(texts) as Record<string, string>,
            data: JSON.parse(String(value)),
          });
        },
      });

      const email = uniqueEmail();
      const { userId, commandId } = await register(email);
      await untilActive(userId);

      // The user has the mail before its sender has told so, and may be the quicker one to answer.
      const told = ['command.succeeded', 'user.verify'];
      const inOrder = (answers: string[]) => [
        ...['user.register', 'email.send'],
        ...answers,
        ...['user.activate', 'command.succeeded'],
      ];
      await eventually(() =>
        expect([inOrder(told), inOrder(told.toReversed())]).toContainEqual(
          commands.map(({ properties }) => properties.type as string),
        ),
      );
      const [registerUser, sendEmail] = commands;
      expect(registerUser?.properties).toMatchObject({
        messageId: commandId,
        deliveryMode: 2,
        contentType: 'application/json',
        appId: 'user-service',
        headers: { version: 1, subject: userId },
      });
      const registrationData = { userId, email: sealed, name: sealed, verificationToken: sealed };
      expect(JSON.parse(String(registerUser?.content))).toEqual(registrationData);
      expect(sendEmail?.properties).toMatchObject({ correlationId: commandId, replyTo: 'orchestrator.replies' });

      const correlations = [commandId, reader.verified.get(userId) ?? ''];
      const ofThis = () => records.filter(({ headers }) => correlations.includes(headers['ce_correlationid'] ?? ''));
      await eventually(() => expect(ofThis()).toHaveLength(16));
      const ofUser = ofThis().filter(({ topic }) => topic === 'user-service.events');
      expect(ofUser).toMatchObject([
        {
          key: `user-${userId}`,
          headers: { ce_specversion: '1.0', ce_type: 'user.registered', ce_sequence: '1', ce_causationid: commandId },
          data: { userId, email: sealed, name: sealed },
        },
        { key: `user-${userId}`, headers: { ce_type: 'user.verified', ce_sequence: '2' }, data: { userId } },
        { key: `user-${userId}`, headers: { ce_type: 'user.activated', ce_sequence: '3' }, data: { userId } },
      ]);
      const topics = new Set(ofThis().map(({ topic }) => topic));
      expect(topics).toEqual(new Set(['user-service.events', 'email-service.events', 'orchestrator.events']));

      for (const service of ['user-service', 'email-service', 'orchestrator']) {
        expect(await channel.checkQueue(`${service}.commands`)).toMatchObject({ messageCount: 0, consumerCount: 1 });
        const deadLetters = await channel.checkQueue(`${service}.commands.dead-letter`);
        expect(deadLetters).toMatchObject({ messageCount: 0, consumerCount: 1 });
      }
      await consumer.disconnect();
      await rabbitMq.close();
    });
  }

  const registration = (): Message => {
    const userId = newMessageId();
    return toMessage(RegisterUser.of({ userId, email: uniqueEmail(), name: 'Ada', verificationToken }), {
      source: 'plain-client',
    });
  };
  const effects = async (userId: string) => {
    const [row] = await services.users.app
      .get(DataSource)
      .query<object[]>('SELECT count(*)::int AS events FROM event WHERE stream_id = $1', [`user-${userId}`]);
    return { ...row, user: await userOf(userId) };
  };
});

async function discardReason(dataSource: DataSource, messageId: string): Promise<string> {
  const [row] = await dataSource.query<{ reason: string }[]>(
    'SELECT reason FROM inbox_discarded WHERE message_id = $1',
    [messageId],
  );
  return row?.reason ?? '';
}

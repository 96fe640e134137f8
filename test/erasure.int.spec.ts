import { RegisterUser } from '@starter/contracts';
import {
  MailCatcher,
  MailReader,
  startBackends,
  startServices,
  type Backends,
  type BrokerMode,
  type Services,
} from '@starter/demo';
import { emailService } from '@starter/email-service';
import { commandsExchange, done, newMessageId, toMessage } from '@starter/messaging';
import {
  readSettings,
  startService,
  type BaseSettings,
  type RunningService,
  type ServiceDefinition,
  type Transports,
} from '@starter/service';
import { PersonalData } from '@starter/personal-data';
import { eventually, testPersonalDataKey } from '@starter/testing';
import { userService } from '@starter/user-service';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { DataSource } from 'typeorm';

const modes: BrokerMode[] = process.env['NATIVE_BROKERS'] === 'missing' ? ['memory'] : ['memory', 'native'];
const commandTypes = ['user.register', 'user.verify', 'user.activate', 'user.deactivate', 'user.erase', 'email.send'];

/** Where something is stored, and all that is stored there. */
interface Place {
  readonly place: string;
  readonly content: string;
}

describe.each(modes)('the erasure of personal data over %s brokers', (brokers) => {
  let folder: string;
  let backends: Backends;
  let catcher: MailCatcher;
  let reader: MailReader;
  let services: Services;
  let smtpUrl: string;
  let tap: Transports | undefined;
  const others: RunningService[] = [];
  const clients: Transports[] = [];
  /** Every command that was ever sent. */
  const sent: string[] = [];

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'erasure-'));
    process.env['PERSONAL_DATA_KEY'] = testPersonalDataKey;
    for (const name of ['USER_SERVICE_PORT', 'EMAIL_SERVICE_PORT', 'ORCHESTRATOR_PORT']) process.env[name] = '0';
    backends = await startBackends({ brokers, users: '', once: true, dataDir: folder }, () => undefined);
    catcher = MailCatcher.inFolder(undefined);
    smtpUrl = await catcher.listen();
    services = await startServices(backends, smtpUrl);
    reader = new MailReader(catcher, () => [services.users.url]);
    await tapCommands();
  }, 120_000);

  afterAll(async () => {
    delete process.env['PERSONAL_DATA_KEY'];
    await Promise.all([tap?.commands.close(), tap?.events.close()]);
    for (const service of others) await service.stop();
    await Promise.all(clients.flatMap(({ commands, events }) => [commands.close(), events.close()]));
    reader?.close();
    await services?.stop();
    await catcher?.close();
    await backends?.stop();
    await rm(folder, { recursive: true, force: true });
  }, 60_000);

  async function tapCommands(): Promise<void> {
    tap = await backends.transportsFor('tap');
    const { commands } = tap;
    await commands.declare({
      exchanges: [{ name: commandsExchange, type: 'direct' }],
      queues: [{ name: 'tap' }],
      bindings: [...commandTypes, 'orchestrator.replies'].map((routingKey) => {
        return { exchange: commandsExchange, queue: 'tap', routingKey };
      }),
    });
    await commands.consume('tap', async ({ message }) => {
      sent.push(JSON.stringify(message));
      return done;
    });
  }

  /** Another process of a service, as far as memory goes. */
  async function startAnother<S extends BaseSettings>(definition: ServiceDefinition<S>): Promise<RunningService> {
    const settings = readSettings(definition.settings, {
      PORT: '0',
      LOG_LEVEL: 'silent',
      ...(await backends.databaseFor(definition.name)),
      SMTP_URL: smtpUrl,
      PERSONAL_DATA_KEY: testPersonalDataKey,
    });
    const transports = await backends.transportsFor(definition.name);
    clients.push(transports);
    const service = await startService(definition, { settings, transports });
    others.push(service);
    return service;
  }

  /** Every row, every topic and queue, and every byte that the servers have written to disk. */
  async function everything(): Promise<Place[]> {
    const rows = await Promise.all(services.all.map((service) => rowsOf(service)));
    return [...rows.flat(), { place: 'commands', content: sent.join('\n') }, ...inMemory(), ...(await onDisk())];
  }

  async function rowsOf({ name, app }: RunningService): Promise<Place[]> {
    const dataSource = app.get(DataSource);
    const tables = await dataSource.query<{ name: string }[]>(
      `SELECT quote_ident(table_name) AS name FROM information_schema.tables WHERE table_schema = 'public'`,
    );
    return Promise.all(
      tables.map(async (table) => {
        const rows = await dataSource.query<{ row: string }[]>(`SELECT it::text AS row FROM ${table.name} it`);
        return { place: `${name} ${table.name}`, content: rows.map(({ row }) => row).join('\n') };
      }),
    );
  }

  function inMemory(): Place[] {
    if (!backends.memory) return [];
    const { broker, log } = backends.memory;
    const records = log.topicNames.map((name) => ({
      place: `topic ${name}`,
      content: log
        .read(name)
        .map(({ key, value, headers }) => `${String(key)} ${String(value)} ${JSON.stringify(headers)}`)
        .join('\n'),
    }));
    const messages = broker.queueNames.map((name) => ({
      place: `queue ${name}`,
      content: broker
        .messages(name)
        .map((it) => `${String(it.content)} ${JSON.stringify(it.properties)}`)
        .join('\n'),
    }));
    return [...records, ...messages];
  }

  async function onDisk(): Promise<Place[]> {
    await services.users.app.get(DataSource).query('CHECKPOINT');
    const entries = await readdir(folder, { recursive: true, withFileTypes: true });
    const files = entries
      // Kafka's indexes are 10 MB of zeros each, and hold offsets only.
      .filter((entry) => entry.isFile() && !/\.(time)?index$/.test(entry.name))
      .map(({ parentPath, name }) => join(parentPath, name));
    const places: Place[] = [];
    for (const file of files) {
      // Servers remove files while we read.
      const content = await readFile(file, 'latin1').catch(() => '');
      places.push({ place: relative(folder, file), content });
    }
    return places;
  }

  const placesOf = (places: readonly Place[], word: RegExp | string): string[] =>
    places.filter(({ content }) => content.search(new RegExp(word, 'i')) >= 0).map(({ place }) => place);

  interface Somebody {
    readonly email: string;
    readonly name: string;
    readonly userId: string;
    readonly commandId: string;
    /** Whatever of them must be nowhere. */
    readonly secrets: RegExp;
  }

  async function register(domain = 'example.com'): Promise<Somebody> {
    const [mailbox, name] = [`mailbox-${randomBytes(6).toString('hex')}`, `Name ${randomBytes(6).toString('hex')}`];
    const email = `${mailbox}@${domain}`;
    const response = await fetch(`${services.users.url}/users`, {
      method: 'POST',
      headers: { ...by('client'), 'content-type': 'application/json', 'idempotency-key': newMessageId() },
      body: JSON.stringify({ email, name }),
    });
    expect(response.status).toBe(202);
    const accepted = (await response.json()) as { userId: string; commandId: string };
    reader.readFor(email, accepted.userId);
    return { ...accepted, email, name, secrets: new RegExp(`${mailbox}|${name}`, 'i') };
  }

  const by = (role: keyof Services['tokens']) => ({ authorization: `Bearer ${services.tokens[role]}` });
  const get = async (url: string, role: keyof Services['tokens'] = 'client') =>
    (await (await fetch(url, { headers: by(role) })).json()) as Record<string, unknown>;
  const userOf = ({ userId }: Somebody, from = services.users) => get(`${from.url}/users/${userId}`);
  const until = (somebody: Somebody, status: string) =>
    eventually(async () => expect(await userOf(somebody)).toMatchObject({ status }), { timeoutMs: 30_000 });
  const erase = async ({ userId }: Somebody) =>
    expect(
      (await fetch(`${services.users.url}/users/${userId}`, { method: 'DELETE', headers: by('operator') })).status,
    ).toBe(202);
  const workflowOf = async ({ commandId }: Somebody): Promise<string[]> => {
    const rows = await services.orchestrator.app
      .get(DataSource)
      .query<{ type: string }[]>(
        'SELECT type FROM event WHERE stream_id IN (SELECT stream_id FROM event WHERE correlation_id = $1) ORDER BY sequence',
        [commandId],
      );
    return rows.map(({ type }) => type);
  };
  const emailOf = async ({ commandId }: Somebody): Promise<Record<string, unknown>> => {
    const [row] = await services.emails.app
      .get(DataSource)
      .query<{ id: string }[]>(`SELECT data->>'emailId' AS id FROM event WHERE correlation_id = $1`, [commandId]);
    return row ? get(`${services.emails.url}/emails/${row.id}`, 'operator') : {};
  };

  it('stores and sends no personal data in plain text, and nobody can read it once the user is erased', async () => {
    const [ada, refused, eve] = [await register(), await register('refused.example'), await register()];
    await until(ada, 'active');
    await until(eve, 'active');
    await until(refused, 'deactivated');
    await eventually(async () => expect((await workflowOf(ada)).at(-1)).toBe('workflow.completed'));
    await eventually(async () => expect((await workflowOf(refused)).at(-1)).toBe('workflow.failed'));
    expect(await userOf(ada)).toMatchObject({ email: ada.email, name: ada.name });
    expect(await emailOf(ada)).toMatchObject({ to: ada.email, status: 'sent' });
    expect([...catcher.mails.values()].some(({ to, raw }) => to === ada.email && raw.includes(ada.name))).toBe(true);
    const second = await startAnother(userService);
    expect(await userOf(ada, second)).toMatchObject({ email: ada.email });

    const before = await everything();
    // The search finds what is there: ids are no secret.
    const known = placesOf(before, ada.userId);
    expect(known).toEqual(expect.arrayContaining(['user-service event', 'email-service personal_key', 'commands']));
    expect(known.filter((place) => place.includes('pg_wal'))).not.toEqual([]);
    const topics =
      brokers === 'memory' ? /^topic user-service\.(events|keys)$/ : /user-service\.(events|keys)-\d.*\.log$/;
    expect(new Set(known.filter((place) => topics.test(place)).map((place) => topics.exec(place)?.[1])).size).toBe(2);
    for (const { secrets } of [ada, refused, eve]) expect(placesOf(before, secrets)).toEqual([]);
    const sealed = sealedTextsOf(before, ada);
    const code = /^Your code: ([\w-]+)/m.exec(
      [...catcher.mails.values()].find(({ to }) => to === ada.email)?.raw ?? '',
    )?.[1];
    expect(new Set(await services.users.app.get(PersonalData).open(sealed))).toEqual(
      new Set([ada.email, ada.name, code]),
    );
    expect(placesOf(before, code ?? '')).toEqual([]);

    await erase(ada);
    await until(ada, 'erased');
    const personalData = services.emails.app.get(PersonalData);
    await eventually(async () => expect(new Set(await personalData.open(sealed))).toEqual(new Set([null])));
    const restarted = [await startAnother(userService), await startAnother(emailService)];
    for (const from of [services.users, second, restarted[0]!]) {
      expect(await userOf(ada, from)).toMatchObject({ email: null, name: null, status: 'erased' });
      expect(await userOf(eve, from)).toMatchObject({ email: eve.email, name: eve.name, status: 'active' });
    }
    expect(await emailOf(ada)).toMatchObject({ to: null, status: 'sent' });
    const after = await everything();
    for (const { secrets } of [ada, refused, eve]) expect(placesOf(after, secrets)).toEqual([]);
    const left = sealedTextsOf(after, ada);
    for (const service of [services.users, services.emails, second, ...restarted]) {
      expect(new Set(await service.app.get(PersonalData).open(left))).toEqual(new Set([null]));
    }
    await erase(ada);
    await erase(refused);
    await until(refused, 'erased');
  }, 120_000);

  it('ends the onboarding of somebody who is erased while it is under way, without an e-mail', async () => {
    await services.emails.messaging.commands.stop();
    for (const service of others.filter(({ name }) => name === 'email-service'))
      await service.messaging.commands.stop();
    const ada = await register();
    await until(ada, 'registered');
    await erase(ada);
    await until(ada, 'erased');
    const personalData = services.emails.app.get(PersonalData);
    await eventually(async () => {
      const keys = await personalData.keys.stored([{ owner: 'user-service', subject: ada.userId }]);
      expect([...keys.values()]).toEqual([null]);
    });
    await startAnother(emailService);
    await eventually(async () => expect((await workflowOf(ada)).at(-1)).toBe('workflow.failed'), { timeoutMs: 30_000 });
    expect(await emailOf(ada)).toMatchObject({ status: 'failed', reason: 'the recipient was erased', to: null });
    expect([...catcher.mails.values()].filter(({ to }) => to === ada.email)).toEqual([]);
    expect(await userOf(ada)).toMatchObject({ status: 'erased' });
  }, 90_000);

  it('seals what comes around the HTTP edge, and keeps no plain text of what it refuses', async () => {
    const outside = await backends.transportsFor('plain-client');
    const [fine, rival, typo] = [await plain(), await plain(), await plain()];
    const { email } = fine.data;
    const refused = {
      ...toMessage(RegisterUser.of(typo.data), { source: 'spec' }),
      data: { ...typo.data, nmae: typo.data.name },
    };
    await outside.commands.send(toMessage(RegisterUser.of(fine.data), { source: 'spec' }));
    await eventually(async () =>
      expect(await get(`${services.users.url}/users/${fine.data.userId}`)).toMatchObject({ email }),
    );
    await outside.commands.send(toMessage(RegisterUser.of({ ...rival.data, email }), { source: 'spec' }));
    await outside.commands.send(refused);
    const discarded = () =>
      services.users.app
        .get(DataSource)
        .query<unknown[]>(`SELECT FROM inbox_discarded WHERE message->>'subject' = ANY($1)`, [
          [rival.data.userId, typo.data.userId],
        ]);
    await eventually(async () => expect(await discarded()).toHaveLength(2));
    await Promise.all([outside.commands.close(), outside.events.close()]);
    const rows = (await Promise.all(services.all.map((service) => rowsOf(service)))).flat();
    const places = [...rows, ...inMemory()].filter(({ place }) => !place.includes('tap'));
    for (const { secrets } of [fine, rival, typo]) expect(placesOf(places, secrets)).toEqual([]);
  }, 60_000);

  const plain = async () => {
    const [mailbox, name] = [`mailbox-${randomBytes(6).toString('hex')}`, `Name ${randomBytes(6).toString('hex')}`];
    const verificationToken = randomBytes(24).toString('base64url');
    const data = { userId: newMessageId(), email: `${mailbox}@example.com`, name, verificationToken };
    return { data, secrets: new RegExp(`${mailbox}|${name}`, 'i') };
  };

  const sealedTextsOf = (places: readonly Place[], { userId }: Somebody): string[] => {
    const form = new RegExp(`sealed:v1:user-service/${userId}/\\w+:[\\w-]{16}:[\\w-]{22,}`, 'g');
    // What lies on disk may be cut off; the rows and records are the same texts.
    const whole = places.filter(({ place }) => /^(user-service|email-service|orchestrator|topic|commands)/.test(place));
    return [...new Set(whole.flatMap(({ content }) => content.match(form) ?? []))];
  };
});

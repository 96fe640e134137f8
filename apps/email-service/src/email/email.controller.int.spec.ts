import { SendEmail } from '@starter/contracts';
import { MemoryCommandTransport, MemoryEventTransport, toMessage } from '@starter/messaging';
import { readSettings, startService, type RunningService } from '@starter/service';
import { createTestDatabase, eventually, sealAs, testPersonalDataKey, type TestDatabase } from '@starter/testing';
import type { AddressInfo } from 'node:net';
import { SMTPServer } from 'smtp-server';
import { DataSource } from 'typeorm';
import { emailService } from '../index.js';

const commands = new MemoryCommandTransport();
const events = new MemoryEventTransport();
let database: TestDatabase;
let smtp: SMTPServer;
let service: RunningService;

beforeAll(async () => {
  database = await createTestDatabase();
  smtp = new SMTPServer({
    authOptional: true,
    logger: false,
    onRcptTo: ({ address }, _, callback) =>
      address.startsWith('nobody')
        ? callback(Object.assign(new Error('no such user'), { responseCode: 550 }))
        : callback(),
  });
  await new Promise<void>((resolve) => smtp.listen(0, '127.0.0.1', resolve));
  const settings = readSettings(emailService.settings, {
    DATABASE_URL: database.url,
    SMTP_URL: `smtp://127.0.0.1:${(smtp.server.address() as AddressInfo).port}`,
    PORT: '0',
    PERSONAL_DATA_KEY: testPersonalDataKey,
    LOG_LEVEL: 'silent',
  });
  service = await startService(emailService, { settings, transports: { commands, events } });
});

afterAll(async () => {
  await service.stop();
  await Promise.all([commands.close(), events.close()]);
  await new Promise<void>((resolve) => smtp.close(resolve));
  await database.drop();
});

async function send(to: string): Promise<string> {
  const recipient = { owner: 'user-service', subject: to.replace('@', '.') };
  const { email, name, verificationToken } = (await sealAs(service.app.get(DataSource), recipient, {
    email: to,
    name: 'Ada',
    verificationToken: 'c0de',
  })) as Record<'email' | 'name' | 'verificationToken', string>;
  const draft = SendEmail.of({ to: email, template: 'welcome', variables: { name, code: verificationToken } });
  const message = toMessage(draft, { source: 'spec' });
  await commands.send(message);
  return message.id;
}

async function get(path: string): Promise<{ status: number; contentType: string | null; body: unknown }> {
  const response = await fetch(`${service.url}${path}`);
  return { status: response.status, contentType: response.headers.get('content-type'), body: await response.json() };
}

describe('GET /emails/:id', () => {
  it('shows an e-mail that was sent', async () => {
    const id = await send('ada@example.com');
    await eventually(async () => {
      expect(await get(`/emails/${id}`)).toMatchObject({
        status: 200,
        body: {
          id,
          status: 'sent',
          to: 'ada@example.com',
          template: 'welcome',
          attempts: 1,
          messageId: `<${id}@example.com>`,
        },
      });
    });
  });

  it('shows why an e-mail failed', async () => {
    const id = await send('nobody@example.com');
    await eventually(async () => {
      const { body } = await get(`/emails/${id}`);
      expect(body).toMatchObject({ id, status: 'failed', reason: expect.stringContaining('no such user') as string });
    });
  });

  it('answers 404 when there is no such e-mail', async () => {
    const answer = await get('/emails/01980000-0000-7000-8000-000000000001');
    expect(answer).toMatchObject({ status: 404, body: { status: 404, title: 'Not Found' } });
    expect(answer.contentType).toContain('application/problem+json');
  });

  it('answers 400 when the id is no UUID', async () => {
    expect(await get('/emails/1')).toMatchObject({ status: 400, body: { status: 400, errors: [{ field: 'id' }] } });
  });

  it('is described in the OpenAPI document', async () => {
    const response = await fetch(`${service.managementUrl}/docs-json`);
    expect(await response.json()).toHaveProperty(['paths', '/emails/{id}', 'get', 'responses', '200']);
  });
});

describe('the settings', () => {
  const read = (environment: Record<string, string>) =>
    readSettings(emailService.settings, {
      DATABASE_URL: 'postgres://127.0.0.1/email',
      PERSONAL_DATA_KEY: testPersonalDataKey,
      ...environment,
    });

  it('have defaults for a mail catcher on this machine', () => {
    expect(read({})).toMatchObject({
      SMTP_URL: 'smtp://127.0.0.1:1025',
      MAIL_FROM: 'Starter <no-reply@example.com>',
    });
  });

  it.each(['no-reply@example.com', '"Starter, Inc." <no-reply@example.com>', '<no-reply@example.com>'])(
    'accept %s as a sender',
    (MAIL_FROM) => {
      expect(read({ MAIL_FROM }).MAIL_FROM).toBe(MAIL_FROM);
    },
  );

  it.each([
    ['MAIL_FROM', 'no-reply'],
    ['MAIL_FROM', 'Starter <no-reply@example.com'],
    ['MAIL_FROM', 'Starter\r\nBcc: eve@example.com <no-reply@example.com>'],
    ['SMTP_URL', 'http://127.0.0.1'],
    ['PERSONAL_DATA_KEY', 'too short'],
    ['PERSONAL_DATA_KEY', ''],
  ])('refuse %s=%j and name the variable', (name, value) => {
    expect(() => read({ [name]: value })).toThrow(name);
  });
});
